"""The dialect of the machine status manager, `/MSM/*`: machines are endpoints.

What the endpoints have no field for (scheduler, nodes, cores) is kept with their options, and given back.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mistamover.config.serving import EndpointSettings
from mistamover.errors import JobError
from mistamover.front.auth import caller
from mistamover.front.context import Front
from mistamover.front.errors import Refused
from mistamover.front.legacy.dm_replies import form_of
from mistamover.front.legacy.form_readers import BadBody, TooLarge
from mistamover.front.legacy.forms import Form
from mistamover.front.words import line
from mistamover.jobs.model import Scope

NO_MACHINE = "No matching machine"

#: How a machine is reached, in the words of its registry; nothing is done on a dummy.
_CONNECTIONS = {"openssh": False, "fabricssh": False, "dummy": True}

_NEEDED = ("machine_name", "host_name", "scheduler", "connection_type", "num_nodes", "cores_per_node", "base_work_dir")

#: Fields of a machine that are options of its endpoint, and what they are called in the list of all machines.
_KEPT = {
    "scheduler": "scheduler",
    "connection_type": "connection_type",
    "num_nodes": "nodes",
    "cores_per_node": "cores_per_node",
}
_NUMBERS = frozenset({"num_nodes", "cores_per_node"})

#: Ids are made of names, so that they are the same ones after a restart, and for machines of the configuration.
_IDS = uuid.UUID("6a1d3a0e-4a52-5c0d-9a8e-2f5f3c1b7d40")

_HOST = re.compile(r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\s\[\]]+)(?P<port>:[0-9]{1,5})?")


class Told(Exception):
    """A request that is answered with this status and message; never leaves the front."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def routes(front: Front) -> list[BaseRoute]:
    """Given the front, return the routes of this dialect."""

    async def health(request: Request) -> Response:
        return JSONResponse({"status": 200})

    async def add(request: Request) -> Response:
        caller(request, Scope.ADMIN)
        await run_in_threadpool(_add, front, await form_of(front, request))
        return _told(201, "Machine added")

    async def delete(request: Request) -> Response:
        caller(request, Scope.ADMIN)
        await run_in_threadpool(_delete, front, request.path_params["id"])
        return _told(200, "Machine deleted")

    async def statuses(request: Request) -> Response:
        caller(request, Scope.READ)
        return JSONResponse([shown(each) for each in await run_in_threadpool(front.desk.endpoints.all)])

    async def match(request: Request) -> Response:
        caller(request, Scope.READ)
        raise Told(501, "machines are not chosen here: this service moves data, and knows nothing of queues")

    return [
        *_both("/MSM/health", health, "GET"),
        *_both("/MSM/add", add, "POST", "PUT"),
        *_both("/MSM/machine/{id}", delete, "DELETE"),
        *_both("/MSM/enable/{id}", _changing(front, {"enabled": True}, "Machine enabled"), "POST", "PUT"),
        *_both("/MSM/disable/{id}", _changing(front, {"enabled": False}, "Machine disabled"), "POST", "PUT"),
        *_both("/MSM/enable_testmode/{id}", _changing(front, {"dry_run": True}, "Test mode enabled"), "POST", "PUT"),
        *_both("/MSM/disable_testmode/{id}", _changing(front, {"dry_run": False}, "Test mode disabled"), "POST", "PUT"),
        *_both("/MSM/machinestatuses", statuses, "GET"),
        *_both("/MSM/matchmachine", match, "POST", "GET"),
    ]


def machine_id(name: str) -> str:
    """Given the name of an endpoint, return the id that it has as a machine."""
    return str(uuid.uuid5(_IDS, name))


def shown(endpoint: EndpointSettings) -> dict[str, object]:
    """Given an endpoint, return what the list of machines says of it."""
    machine: dict[str, object] = {
        "uuid": machine_id(endpoint.name),
        "name": endpoint.name,
        "host_name": endpoint.host or "localhost",
        "enabled": endpoint.enabled,
        "test_mode": endpoint.dry_run,
    }
    for field, name in _KEPT.items():
        value = endpoint.options.get(field, "")
        machine[name] = int(value) if field in _NUMBERS and value.isascii() and value.isdigit() else value or None
    if machine["connection_type"] is None and endpoint.scheme == "sftp":
        machine["connection_type"] = "openssh"
    return machine


def url_of(host_name: str, base: str, user: str = "") -> str:
    """Given a machine's host (`[USER@]HOST[:PORT]`), its directory and a user, return the URL. Raise Told."""
    parts = _HOST.fullmatch(host_name)
    if parts is None:
        raise Told(400, "host_name is [USER@]HOST[:PORT]")
    if not base.startswith("/"):
        raise Told(400, "base_work_dir is an absolute path")
    login = user or parts["user"] or ""
    before = f"{quote(login, safe='')}@" if login else ""
    return f"sftp://{before}{parts['host']}{parts['port'] or ''}{quote(base)}"


def _add(front: Front, form: Form) -> None:
    lacking = [name for name in _NEEDED if not form.text(name)]
    if lacking:
        raise Told(400, f"Missing: {', '.join(lacking)}")
    name, connection = form.text("machine_name"), form.text("connection_type").lower()
    if connection not in _CONNECTIONS:
        raise Told(400, f"connection_type is one of {', '.join(_CONNECTIONS)}")
    for number in sorted(_NUMBERS):
        if not re.fullmatch(r"[0-9]{1,9}", form.text(number)):
            raise Told(400, f"{number} is a number")
    if front.desk.endpoints.get(name) is not None:
        raise Told(409, f"there is a machine {name} already: delete it first")
    front.desk.endpoints.put(
        name,
        url=url_of(form.text("host_name"), form.text("base_work_dir"), form.text("username")),
        enabled=False,
        dry_run=_CONNECTIONS[connection],
        options={field: line(form.text(field)) for field in _KEPT} | {"connection_type": connection},
        password=form.text("password") or None,
        identity=form.text("key") or None,
    )
    front.known.forget()


def _delete(front: Front, identity: str) -> None:
    front.desk.endpoints.delete(_found(front, identity).name)
    front.known.forget()


def _found(front: Front, identity: str) -> EndpointSettings:
    """Given a machine's id, or its name, return its endpoint. Raise Told (404)."""
    for endpoint in front.desk.endpoints.all():
        if identity in (endpoint.name, machine_id(endpoint.name)):
            return endpoint
    raise Told(404, NO_MACHINE)


def _changing(front: Front, change: Mapping[str, Any], message: str) -> Callable[[Request], Awaitable[Response]]:
    def changed(identity: str) -> None:
        front.desk.endpoints.patch(_found(front, identity).name, **change)
        front.known.forget()

    async def handle(request: Request) -> Response:
        caller(request, Scope.ADMIN)
        await run_in_threadpool(changed, request.path_params["id"])
        return _told(200, message)

    return handle


def _both(path: str, handler: Callable[[Request], Awaitable[Response]], *methods: str) -> list[BaseRoute]:
    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except Told as error:
            return _told(error.status, str(error))
        except (BadBody, TooLarge) as error:
            return _told(413 if isinstance(error, TooLarge) else 400, str(error))
        except Refused as error:
            return _told(error.status_code, error.detail, error.headers)
        except JobError as error:
            return _told(409 if error.code == "from-ini" else 400, str(error))

    return [Route(one, answered, methods=list(methods)) for one in (path, f"{path}/")]


def _told(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"msg": line(message)}, status, headers)
