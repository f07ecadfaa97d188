"""Quarantine: a unit that cannot be delivered is moved out of the way, with its reason beside it."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from mistamover.files.durable import sync_directory, write_whole
from mistamover.files.names import display
from mistamover.model import FaultClass
from mistamover.stream.books import Books
from mistamover.stream.ledger import Trouble
from mistamover.stream.roll import Candidate

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
            moved = move_away(books.root, candidate.name, directory, trouble.reason, time.time())
            books.note_troubles([replace(trouble, moved_to=moved, identity=None)])
        except OSError as error:
            words = (books.place(candidate.name), directory, error.strerror or error)
            logger.error("%s: cannot be moved to %s (%s): it stays where it is", *words)
    logger.error("%s: quarantined: %s", display(candidate.name), trouble.reason)
    books.error(f"{display(candidate.name)}: quarantined: {trouble.reason}")
    books.counts.quarantined += 1
    books.roll.drop(candidate)
    books.moved_on()


def move_away(root: bytes, name: bytes, quarantine_dir: Path, reason: str, now: float) -> bytes:
    """Given a unit and why it cannot be delivered, move it below the quarantine directory; return its new path.

    Its relative name is kept; a number is added where that name is taken.  A file `NAME.reason` beside it says
    what happened.  Raise OSError when it cannot be moved; it is then where it was.
    """
    destination = _free_name(os.fsencode(quarantine_dir) + b"/" + name)
    os.makedirs(os.path.dirname(destination), mode=0o700, exist_ok=True)
    when = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now))
    text = (
        f"name:   {display(name)}\nfrom:   {display(root + b'/' + name)}\nwhen:   {when}\nreason: {reason}\n"
        f"\nTo have it tried again, move it back to where it came from.\n"
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
        os.rename(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(source, destination)
    sync_directory(os.path.dirname(destination))


def _move_across(source: bytes, destination: bytes) -> None:
    """Copy to another filesystem under a temporary name, make it durable, rename it, and only then remove."""
    temporary = os.path.dirname(destination) + b"/.mistamover-%d" % os.getpid()
    if os.path.isdir(source) and not os.path.islink(source):
        shutil.copytree(os.fsdecode(source), os.fsdecode(temporary), symlinks=True)
    else:
        shutil.copy2(source, temporary, follow_symlinks=False)
    os.sync()
    os.rename(temporary, destination)
    if os.path.isdir(source) and not os.path.islink(source):
        shutil.rmtree(source)
    else:
        os.unlink(source)
