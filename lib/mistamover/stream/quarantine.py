"""Quarantine: a unit that cannot be delivered is moved out of the way, with its reason beside it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
from dataclasses import replace
from pathlib import Path

from mistamover.files.durable import sync_directory, write_whole
from mistamover.files.moving import copy_whole, remove_whole, rename_exclusively
from mistamover.files.names import display
from mistamover.model import FaultClass
from mistamover.stream.books import Books
from mistamover.stream.ledger import Trouble
from mistamover.stream.roll import Candidate
from mistamover.stream.words import retry_command

logger = logging.getLogger(__name__)

SUFFIX = b".reason"

#: Bytes that Linux filesystems take for one name.
_LONGEST_NAME = 255


def quarantine(books: Books, candidate: Candidate, reason: str, target: str) -> None:
    """Given the books, a candidate, why it is not tried again, and the target it was meant for, end it in quarantine.

    A move takes it out of the stream's directory; a mirror leaves its source alone and only remembers it.
    """
    trouble = Trouble(
        name=candidate.name,
        target=target,
        quarantined=True,
        attempts=candidate.attempts,
        fault=FaultClass.SOURCE,
        reason=candidate.failure or reason,
        since=candidate.first_seen,
        retry_at=0.0,
        identity=candidate.identity,
    )
    # The intent first: a process that dies in between finds the unit in quarantine, moved or not.
    books.note_troubles([trouble])
    if books.move:
        directory = books.settings.quarantine_dir
        try:
            again = retry_command(books.settings.name, candidate.name)
            moved = move_away(books.root, candidate.name, directory, trouble.reason, time.time(), retry=again)
            books.note_troubles([replace(trouble, moved_to=moved, identity=None)])
        except OSError as error:
            words = (books.place(candidate.name), directory, error.strerror or error)
            logger.error("%s: cannot be moved to %s (%s): it stays where it is", *words)
    logger.error("%s: quarantined: %s", display(candidate.name), trouble.reason)
    books.error(f"{display(candidate.name)}: quarantined: {trouble.reason}")
    books.counts.quarantined += 1
    books.set_aside[candidate.name] += 1
    books.roll.drop(candidate)
    books.moved_on()


def move_away(root: bytes, name: bytes, quarantine_dir: Path, reason: str, now: float, *, retry: str = "") -> bytes:
    """Given a unit, why it cannot be delivered, and the command that has it tried again, move it below the quarantine
    directory; return its new path.

    Its relative name is kept; a number is added where that name is taken.  A file `NAME.reason` beside it says
    what happened.  Raise OSError when it cannot be moved; it is then where it was.
    """
    destination = _free_name(os.fsencode(quarantine_dir) + b"/" + name)
    os.makedirs(os.path.dirname(destination), mode=0o700, exist_ok=True)
    when = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now))
    text = (
        f"name:   {display(name)}\nfrom:   {display(root + b'/' + name)}\nwhen:   {when}\nreason: {reason}\n"
        f"\nTo have it tried again: {retry or 'move it back to where it came from'}\n"
    )
    note = Path(os.fsdecode(note_name(destination)))
    write_whole(note, text.encode("utf-8", "backslashreplace"))
    try:
        _move(root + b"/" + name, destination)
    except OSError:
        note.unlink(missing_ok=True)
        raise
    return destination


def note_name(destination: bytes) -> bytes:
    """Given the path of something in quarantine, return the path of the file with its reason."""
    above, _, last = destination.rpartition(b"/")
    if len(last) + len(SUFFIX) > _LONGEST_NAME:
        key = hashlib.blake2b(last, digest_size=8).hexdigest().encode()
        last = last[: _LONGEST_NAME - len(SUFFIX) - len(key) - 1] + b"." + key
    return above + b"/" + last + SUFFIX


def take_note_away(path: bytes, quarantine_dir: Path) -> None:
    """Given where a unit lay and the quarantine directory, remove its note, and directories that are empty now."""
    top = os.fsencode(quarantine_dir)
    if not path.startswith(top + b"/"):
        return
    with contextlib.suppress(OSError):
        os.unlink(note_name(path))
    above = os.path.dirname(path)
    with contextlib.suppress(OSError):
        while above != top:
            os.rmdir(above)
            above = os.path.dirname(above)


def found_again(books: Books, trouble: Trouble) -> bytes | None:
    """Given a unit that was about to be moved to quarantine when a process died, return its path there, if it is."""
    if trouble.identity is None or os.path.lexists(books.root + b"/" + trouble.name):
        return None
    wanted = os.fsencode(books.settings.quarantine_dir) + b"/" + trouble.name
    above, _, last = wanted.rpartition(b"/")
    try:
        names = [name for name in os.listdir(above) if name == last or name.startswith(last[:245] + b".")]
        for name in names:
            status = os.lstat(above + b"/" + name)
            if (status.st_dev, status.st_ino) == trouble.identity[:2]:
                return above + b"/" + name
    except OSError:
        return None
    return None


def _free_name(wanted: bytes) -> bytes:
    if _is_free(wanted):
        return wanted
    above, _, last = wanted.rpartition(b"/")
    for number in range(1, 100_000):
        candidate = above + b"/" + last[:245] + b".%d" % number
        if _is_free(candidate):
            return candidate
    raise FileExistsError(errno.EEXIST, "the quarantine directory holds too many of this name", display(wanted))


def _is_free(path: bytes) -> bool:
    """Whether neither the name nor that of its note is taken: a note must not replace somebody's file."""
    return not os.path.lexists(path) and not os.path.lexists(note_name(path))


def _move(source: bytes, destination: bytes) -> None:
    try:
        rename_exclusively(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(source, destination)
    sync_directory(os.path.dirname(destination))


def _move_across(source: bytes, destination: bytes) -> None:
    """Copy to another filesystem under a temporary name, durably, rename it, and only then remove."""
    temporary = os.path.dirname(destination) + b"/.mistamover-%d" % os.getpid()
    remove_whole(temporary)
    copy_whole(source, temporary)
    rename_exclusively(temporary, destination)
    sync_directory(os.path.dirname(destination))
    remove_whole(source)
