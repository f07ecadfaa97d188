"""How requests of the data manager's dialect are answered: bare text, whatever goes wrong, and when a job has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from mistamover.errors import JobError, MistamoverError
from mistamover.front.context import Front
from mistamover.front.errors import Refused, refused
from mistamover.front.legacy import dm_records as records
from mistamover.front.legacy import dm_words as words
from mistamover.front.legacy.form_readers import BadBody, TooLarge
from mistamover.front.legacy.forms import Form, read
from mistamover.front.words import line, masked
from mistamover.jobs.model import Job, JobState, Scope
from mistamover.jobs.submission import Caller

Handler = Callable[[Request], Awaitable[Response]]


def text(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """Given a status and a text, return the answer; no browser takes it for anything but text."""
    plain = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return Response(words, status, headers={**plain, **(headers or {})})


def answering(front: Front, handler: Handler) -> Handler:
    """Given what handles a request, return what answers in this dialect's words when that refuses."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except words.Told as error:
            return text(error.status, await public(front, request, str(error)))
        except (BadBody, TooLarge) as error:
            return text(413 if isinstance(error, TooLarge) else 400, line(str(error)))
        except Refused as error:
            return text(error.status_code, await public(front, request, error.detail), error.headers)
        except JobError as error:
            told = words.refusal(error, request.path_params.get("id", ""))
            return text(told.status, await public(front, request, str(told)))
        except MistamoverError as error:
            told_all = refused(error)
            return text(told_all.status_code, str(told_all.detail), told_all.headers)

    return answered


async def form_of(front: Front, request: Request, *, content: str = "") -> Form:
    """Given a request and the field of it that is content, return its fields. Raise BadBody, TooLarge."""
    settings = front.settings
    return await read(
        request,
        limit=settings.front.max_request,
        content=content,
        directory=settings.directory,
        content_limit=settings.front.max_content,
    )


async def ended(front: Front, job: Job) -> Job:
    """Given a job, return it when it is done. Raise Told if it fails, or has not ended in time."""
    seconds = front.settings.front.sync_timeout
    last = await front.feed.ended(job.id, seconds)
    if last is None:
        raise words.Told(500, "the job was removed")
    if not last.state.final:
        task = records.task_id(job.id)
        raise words.Told(202, f"not done within {seconds:.0f} s: it goes on, see /DM/async/status/{task}")
    if last.state is not JobState.DONE:
        items = await run_in_threadpool(front.store.jobs.items, job.id)
        raise words.failure(last, tuple(items))
    return last


async def public(front: Front, request: Request, words: str) -> str:
    """Given a text, return it as one line; the directories of this host are shown only to an administrator."""
    who: Caller = request.state.caller
    if who.scope.includes(Scope.ADMIN):
        return line(words)
    return line(masked(words, await run_in_threadpool(front.known.instead)))
