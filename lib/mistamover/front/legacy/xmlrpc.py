"""The XML-RPC dialect on HTTP: `/data_mover` and `/RPC2`.

A mistake in the protocol is a fault, with the HTTP status 200; so is what goes wrong here.
"""

from __future__ import annotations

import logging
import os

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mistamover.errors import MistamoverError
from mistamover.front.auth import caller
from mistamover.front.context import Front
from mistamover.front.errors import refused
from mistamover.front.legacy import xmlrpc_wire as wire
from mistamover.front.legacy.xmlrpc_methods import CallFault, Methods
from mistamover.jobs.model import Scope
from mistamover.jobs.submission import Caller

logger = logging.getLogger(__name__)

PATHS = ("/data_mover", "/data_mover/", "/RPC2", "/RPC2/")


def routes(front: Front) -> list[BaseRoute]:
    """Given the front, return the routes of this dialect."""
    methods = Methods(front)

    async def respond(request: Request) -> Response:
        who = caller(request, Scope.READ)
        body = await request.body()
        return Response(
            await run_in_threadpool(answered, methods, body, who), headers={"Content-Type": wire.CONTENT_TYPE}
        )

    return [Route(path, respond, methods=["POST"]) for path in PATHS]


def answered(methods: Methods, body: bytes, who: Caller) -> bytes:
    """Given the table of methods, the body of a request and who sent it, return the body of the response."""
    try:
        return wire.answer(methods.call(wire.read(body), who))
    except wire.Unreadable as error:
        return wire.fault(wire.NOT_WELL_FORMED, str(error))
    except CallFault as error:
        return wire.fault(error.code, str(error))
    except MistamoverError as error:
        return wire.fault(wire.REFUSED, refused(error).detail)
    except Exception:  # the top of a request: its client is told in its own protocol
        number = os.urandom(4).hex()
        logger.exception("error %s in an XML-RPC call", number, extra={"action": "front"})
        return wire.fault(wire.INTERNAL_ERROR, f"something went wrong here; the log tells more about error {number}")
