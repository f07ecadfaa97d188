"""The data manager's dialect, `/DM/*`: the calls that change something, and wait until it is done.

Each makes a job as every other dialect does.  Fields come in forms or in JSON, with any verb.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mistamover.errors import JobError
from mistamover.front.auth import caller
from mistamover.front.context import Front
from mistamover.front.legacy import dm_asks as asks
from mistamover.front.legacy import dm_async, dm_catalogue
from mistamover.front.legacy import dm_records as records
from mistamover.front.legacy import dm_words as words
from mistamover.front.legacy.dm_replies import Handler, ended, form_of, text
from mistamover.front.legacy.dm_routes import both
from mistamover.front.legacy.forms import Form
from mistamover.jobs import spool
from mistamover.jobs.model import DataObject, Job, ObjectState, Scope
from mistamover.jobs.submission import Caller

#: The requests whose body may be as large as a file.
CONTENT = (("PUT", "/DM/put", ""), ("POST", "/DM/put", ""))

Ask = Callable[[Front, Caller, str, Form], Job]


def routes(front: Front) -> list[BaseRoute]:
    """Given the front, return the routes of this dialect."""
    released = front.settings.front.datamanager_dialect == "released"

    async def register(request: Request) -> Response:
        who = caller(request, Scope.SUBMIT)
        thing = await run_in_threadpool(asks.register, front, who, await form_of(front, request))
        return text(201, thing.id)

    async def put(request: Request) -> Response:
        who = caller(request, Scope.SUBMIT)
        form = await form_of(front, request, content="payload")
        job = await ended(front, await run_in_threadpool(_put, front, who, form))
        return text(201, words.first_object(job))

    async def get_external(request: Request) -> Response:
        who = caller(request, Scope.SUBMIT)
        job = await run_in_threadpool(asks.get_external, front, who, await form_of(front, request))
        if job.callback is not None:
            return text(201, words.SCHEDULED)
        return text(201, words.first_object(await ended(front, job)))

    async def copy(request: Request) -> Response:
        job = await ended(front, await asked(front, request, asks.copy))
        return text(201, words.first_object(job))

    async def move(request: Request) -> Response:
        await ended(front, await asked(front, request, asks.move))
        return text(201, asks.object_id(request.path_params["id"])) if released else text(200, words.MOVED)

    async def archive(request: Request) -> Response:
        await ended(front, await asked(front, request, asks.archive))
        return text(200, words.ARCHIVED)

    async def activate(request: Request) -> Response:
        await ended(front, await asked(front, request, asks.activate))
        return text(200, words.ACTIVATED)

    return [
        *dm_catalogue.routes(front),
        *dm_async.routes(front),
        *both(front, "/DM/register", register, "PUT", "POST"),
        *both(front, "/DM/put", put, "PUT", "POST"),
        *both(front, "/DM/getexternal", get_external, "PUT", "POST"),
        *both(front, "/DM/copy/{id}", copy, "POST", "PUT"),
        *both(front, "/DM/move/{id}", move, "POST", "PUT"),
        *both(front, "/DM/archive/{id}", archive, "POST", "PUT"),
        *both(front, "/DM/activate/{id}", activate, "POST", "PUT"),
        *both(front, "/DM/remove/{id}", _deleting(front, _name), "DELETE", "POST"),
        *both(front, "/DM/delete/{id}", _deleting(front, _machine_and_path), "DELETE", "POST"),
    ]


async def asked(front: Front, request: Request, ask: Ask) -> Job:
    """Given a request about an object, and what takes it to the desk, return its job. Raise Told, JobError."""
    who = caller(request, Scope.SUBMIT)
    form = await form_of(front, request)
    return await run_in_threadpool(ask, front, who, request.path_params["id"], form)


def _put(front: Front, who: Caller, form: Form) -> Job:
    try:
        return asks.put(front, who, form)
    except (words.Told, JobError):
        # Once the desk has it the content is the desk's; before, nobody would remove it.
        if form.content is not None:
            spool.remove(front.settings.directory, form.content.name)
        raise


def _deleting(front: Front, named: Callable[[DataObject], str]) -> Handler:
    async def delete(request: Request) -> Response:
        who = caller(request, Scope.SUBMIT)
        thing = await run_in_threadpool(asks.found, front, request.path_params["id"])
        if thing is None:
            raise words.Told(404, words.NOTHING_TO_DELETE)
        # Who asks twice, because an answer was lost, gets the same answer.
        if thing.state is not ObjectState.DELETED:
            asks.may_change(who, thing)
            job, _ = await run_in_threadpool(front.desk.delete_object, asks.request_of(who), thing.id)
            await ended(front, job)
        return text(200, f"{named(thing)} deleted")

    return delete


def _name(thing: DataObject) -> str:
    return records.printed(thing.location.path.rpartition("/")[2])


def _machine_and_path(thing: DataObject) -> str:
    return f"{thing.location.endpoint}:{records.printed(thing.location.path)}"
