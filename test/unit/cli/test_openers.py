"""Who has a file open, as /proc tells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mistamover.cli.openers import Opener, OpenFile, openers_of


@contextmanager
def holding(path: Path, mode: str) -> Iterator[int]:
    """Keep a file open in another process."""
    code = "import sys; f = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(path), mode]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def look(path: Path) -> list[Opener]:
    status = path.stat()
    file = OpenFile(dev=status.st_dev, ino=status.st_ino, last_name=os.fsencode(path.name), links=status.st_nlink)
    return list(openers_of([file]).seen)


@pytest.mark.parametrize(("mode", "writing"), [("rb", False), ("ab", True), ("r+b", True)])
def test_readers_and_writers_are_told_apart(scratch: Path, mode: str, writing: bool) -> None:
    path = scratch / "file with a blank"
    path.write_text("x")
    with holding(path, mode) as pid:
        (found,) = look(path)
    assert (found.pid, found.writing) == (pid, writing)
    assert found.program.startswith("python")
    assert look(path) == []


def test_another_file_of_the_same_name_is_not_meant(scratch: Path) -> None:
    (scratch / "other").mkdir()
    for path in (scratch / "file", scratch / "other" / "file"):
        path.write_text("x")
    with holding(scratch / "other" / "file", "ab"):
        assert look(scratch / "file") == []


def test_a_file_that_is_open_under_its_other_name_is_found(scratch: Path) -> None:
    (scratch / "one").write_text("x")
    os.link(scratch / "one", scratch / "two")
    with holding(scratch / "one", "ab") as pid:
        assert [found.pid for found in look(scratch / "two")] == [pid]


def test_a_file_that_was_renamed_while_open_is_found(scratch: Path) -> None:
    (scratch / "before").write_text("x")
    with holding(scratch / "before", "ab") as pid:
        (scratch / "before").rename(scratch / "after")
        assert [found.pid for found in look(scratch / "after")] == [pid]


def test_our_own_descriptors_are_not_told(scratch: Path) -> None:
    with (scratch / "file").open("w"):
        assert look(scratch / "file") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_processes_of_others_are_counted_when_they_cannot_be_looked_into(scratch: Path) -> None:
    path = scratch / "file"
    path.write_text("x")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        found = openers_of([OpenFile(dev=1, ino=1, last_name=b"file")])
        os.write(write, b"%d %d" % (len(found.seen), found.hidden))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        seen, hidden = map(int, pipe.read().split())
    assert seen == 0
    assert hidden > 0
