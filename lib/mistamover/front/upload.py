"""Content on its way from a client: into a private file of the spool, hashed while it comes, and flushed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from mistamover.config.serving import JobSettings
from mistamover.front.errors import Refused
from mistamover.jobs import spool

#: Bytes that are written at a time.
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A file of the spool that is complete."""

    name: str
    size: int
    digest: str
    """Its sha256."""


async def spooled(settings: JobSettings, pieces: AsyncIterator[bytes]) -> Spooled:
    """Given the settings and the pieces of a request's body, return the file that they are in.

    It is the caller's to give to the desk, or to remove. Raise Refused (507: no room; 400: the client has gone).
    """
    try:
        name, descriptor = await run_in_threadpool(spool.new, settings.directory)
    except OSError as error:
        raise _no_room(error) from error
    whole = False
    try:
        digest = hashlib.sha256()
        size = 0
        waiting = bytearray()

        def keep(data: bytes) -> None:
            digest.update(data)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

        async for piece in pieces:
            waiting += piece
            size += len(piece)
            if len(waiting) >= _PIECE:
                await run_in_threadpool(keep, bytes(waiting))
                waiting.clear()
        await run_in_threadpool(keep, bytes(waiting))
        await run_in_threadpool(os.fsync, descriptor)
        whole = True
        return Spooled(name=name, size=size, digest=digest.hexdigest())
    except OSError as error:
        raise _no_room(error) from error
    except ClientDisconnect as error:
        raise Refused(400, "cut-off", "the content did not come to its end") from error
    finally:
        os.close(descriptor)
        if not whole:
            spool.remove(settings.directory, name)


def _no_room(error: OSError) -> Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, "no-space", "there is no room for this content now")
    return Refused(500, "spool", f"the content cannot be kept here: {error.strerror}")
