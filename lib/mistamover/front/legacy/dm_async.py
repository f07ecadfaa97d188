"""The data manager's dialect, `/DM/async/*`: the same jobs, and nobody waits for them.

A task's id is its job's, with dashes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from mistamover.front.auth import caller
from mistamover.front.context import Front
from mistamover.front.legacy import dm_asks as asks
from mistamover.front.legacy import dm_records as records
from mistamover.front.legacy import dm_words as words
from mistamover.front.legacy.dm_replies import Handler, form_of, public, text
from mistamover.front.legacy.dm_routes import both
from mistamover.front.legacy.forms import Form
from mistamover.jobs.model import Job, Scope
from mistamover.jobs.submission import Caller

_JOB_ID = re.compile(r"[0-9a-f]{32}")


def routes(front: Front) -> list[BaseRoute]:
    """Given the front, return the routes of the calls of the background."""

    async def status(request: Request) -> Response:
        caller(request, Scope.READ)
        identity = records.job_id(request.path_params["id"])
        job = await run_in_threadpool(front.store.jobs.get, identity) if _JOB_ID.fullmatch(identity) else None
        if job is None:
            raise words.Told(404, words.NO_TASK)
        result = await public(front, request, words.outcome(job))
        return JSONResponse({"status": words.TASK_STATUS[job.state], "result": result})

    async def none(request: Request) -> Response:
        caller(request, Scope.READ)
        raise words.Told(404, words.NO_TASK)

    async def get_external(request: Request) -> Response:
        who = caller(request, Scope.SUBMIT)
        job = await run_in_threadpool(asks.get_external, front, who, await form_of(front, request))
        return text(200, records.task_id(job.id))

    return [
        *both(front, "/DM/async/status", none, "GET"),
        *both(front, "/DM/async/status/{id}", status, "GET"),
        *both(front, "/DM/async/getexternal", get_external, "PUT", "POST"),
        *both(front, "/DM/async/copy/{id}", _later(front, asks.copy), "POST", "PUT"),
        *both(front, "/DM/async/move/{id}", _later(front, asks.move), "POST", "PUT"),
        *both(front, "/DM/async/archive/{id}", _later(front, asks.archive), "POST", "PUT"),
        *both(front, "/DM/async/activate/{id}", _later(front, asks.activate), "POST", "PUT"),
    ]


def _later(front: Front, ask: Callable[[Front, Caller, str, Form], Job]) -> Handler:
    async def submit(request: Request) -> Response:
        who = caller(request, Scope.SUBMIT)
        form = await form_of(front, request)
        job = await run_in_threadpool(ask, front, who, request.path_params["id"], form)
        return text(200, records.task_id(job.id))

    return submit
