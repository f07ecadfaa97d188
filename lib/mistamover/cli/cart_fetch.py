"""Downloading to a file, over connections that may break: what has come stays, and the next attempt goes on there.

What is not whole is called `NAME.TAG.part`, where the tag is the front's for exactly these bytes: what another download
left can never become a part of this one.
"""

from __future__ import annotations

import http.client
import os
import re
import time
from pathlib import Path
from typing import Final

from mistamover.cli.common import printable
from mistamover.cli.job_client import Client, ServiceAway, ServiceError
from mistamover.errors import UsageError

#: Bytes that are read at a time.
_PIECE: Final = 1 << 20

#: Attempts in a row that bring nothing, and the seconds before each but the first.
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)

_NAME: Final = re.compile(r'filename="?([A-Za-z0-9._+=@-]+)"?')
_TAG: Final = re.compile(r'"([A-Za-z0-9._-]{1,100})"')


def fetch(client: Client, path: str, output: Path | None, *, replace: bool = False) -> Path:
    """Given a path of the API and where what is there is to go, download it; return the file.

    Raise UsageError where a file is there already, and may not be replaced; ServiceError.
    """
    with client.opened("HEAD", path) as head:
        tag, name = _tag(head), _NAME.search(head.headers.get("content-disposition", ""))
    target = output or Path(name[1].lstrip(".") if name else "content")
    if target.is_dir():
        raise UsageError(f"{printable(target)} is a directory: name a file in it")
    if target.exists() and not replace:
        raise UsageError(f"{printable(target)} is there already: name another file by -o, or replace it by --force")
    part = target.with_name(f"{target.name}.{tag}.part")
    try:
        with part.open("ab") as file:
            _fill(client, path, tag, file.fileno())
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise UsageError(f"{printable(target)} cannot be written: {error.strerror}") from error
    return target


def _fill(client: Client, path: str, tag: str, descriptor: int) -> None:
    """Go on until all is there. Raise ServiceError, OSError."""
    pauses = iter(_PAUSES)
    while True:
        before = os.fstat(descriptor).st_size
        try:
            if _once(client, path, tag, descriptor, before):
                return
            why = "the connection was cut off"
        except ServiceAway as error:
            why = str(error)
        if os.fstat(descriptor).st_size > before:
            pauses = iter(_PAUSES)
        pause = next(pauses, None)
        if pause is None:
            raise ServiceError(f"the download does not get on: {why}; what has come is kept for the next attempt")
        time.sleep(pause)


def _once(client: Client, path: str, tag: str, descriptor: int, begin: int) -> bool:
    """Fetch what is missing; return whether that is all. Raise ServiceError, OSError."""
    headers = {"Range": f"bytes={begin}-", "If-Range": f'"{tag}"'} if begin else {}
    with client.opened("GET", path, headers, accepted=(416,)) as answer:
        if answer.status == 416:
            # There is nothing behind what is here: it was cut off when it was whole.
            return answer.headers.get("content-range", "") == f"bytes */{begin}"
        if _tag(answer) != tag:
            raise ServiceError("what is there is another one meanwhile: fetch it anew")
        if answer.status != 206:
            # All of it comes: it has no ranges.
            os.ftruncate(descriptor, 0)
        while piece := _read(answer):
            _write(descriptor, piece)
        # None are missing, or nobody said how many there are, and the last one was marked as such.
        return piece is not None and not answer.length


def _read(answer: http.client.HTTPResponse) -> bytes | None:
    """Return the next bytes, none at the end; None where the connection broke."""
    try:
        return answer.read(_PIECE)
    except (OSError, http.client.HTTPException):
        return None


def _write(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _tag(answer: http.client.HTTPResponse) -> str:
    found = _TAG.fullmatch(answer.headers.get("etag", ""))
    if found is None:
        raise ServiceError("the front does not say what it sends")
    return found[1]
