"""Kills a process at every line of what moves a unit out of quarantine, and looks at what it has left.

A program of its own, because it forks: `python kill_points.py SCRATCH QUARANTINE VERB file|tree STEP`.  It kills at
every STEPth line, and prints where the last one was.  Each child gets a fresh site of one unit in quarantine, and does
what is asked of it until it is killed; the parent then does what the next process does, and checks what must hold.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from mistamover.config.settings import StreamSettings
from mistamover.stream import requests
from mistamover.stream.books import Books
from mistamover.stream.desk import Desk
from mistamover.stream.ledger import Ledger
from mistamover.stream.requests import Request, Verb
from unit.stream.desks import OfOneStream

#: Where a line counts.
FILES = (
    "desk.py",
    "relocation.py",
    "moving.py",
    "durable.py",
    "ledger.py",
    "database.py",
    "quarantine.py",
    "requests.py",
)

NAME = b"d/un\nit \xff"


def work(settings: StreamSettings) -> None:
    """Do what a process of the stream does with what is asked."""
    with Ledger(settings.state_dir / "ledger.sqlite") as ledger:
        desk = Desk(Books(settings, ledger), lambda name, now: None)
        desk.recover()
        desk.serve()
        assert not desk.busy


def child(settings: StreamSettings, number: int) -> None:
    """Do the work, and die at the line of that number; end with status 0 if there are fewer."""
    left = number

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        wanted = os.path.basename(frame.f_code.co_filename) in (*FILES, "shutil.py")
        return line if wanted else None

    status = 1
    try:
        sys.settrace(call)
        work(settings)
        sys.settrace(None)
        status = 0
    finally:
        os._exit(status)


def check(site: OfOneStream, verb: Verb, number: int) -> None:
    """Check what the next process has made of what is left."""
    settings = site.settings
    where = f"killed at line {number}: {os.listdir(site.scratch)}"
    here, there = site.lies_in_quarantine(NAME), site.lies(site.destination(verb), NAME)
    assert (here, there) == (False, True), where
    with Ledger(settings.state_dir / "ledger.sqlite") as ledger:
        assert (ledger.troubles(), ledger.relocations()) == ([], []), where
        assert len(ledger.releases(name=NAME)) == (verb is Verb.RELEASE), where
    left = [name for top in site.directories for _, below, names in os.walk(top) for name in (*below, *names)]
    assert not [name for name in left if name.startswith(b".mistamover") or name.endswith(b".reason")], (where, left)
    assert requests.pending(settings.state_dir) == [], where


def check_half(site: OfOneStream, verb: Verb, number: int) -> None:
    """Check what holds once somebody has recovered, before anything else is asked: one place, known to the ledger."""
    settings = site.settings
    for key in requests.pending(settings.state_dir):
        requests.withdraw(settings.state_dir, key)
    work(settings)
    here, there = site.lies_in_quarantine(NAME), site.lies(site.destination(verb), NAME)
    assert here != there, f"killed at line {number}: in quarantine {here}, at its destination {there}"
    with Ledger(settings.state_dir / "ledger.sqlite") as ledger:
        assert [t.name for t in ledger.troubles()] == ([NAME] if here else []), number
        assert ledger.relocations() == []
    if here:
        assert site.has_note(NAME), number
        requests.submit(settings.state_dir, site.request(verb, NAME))


def main() -> None:
    """Kill at one line after the other, until one child lives."""
    scratch, quarantine, verb, kind = Path(sys.argv[1]), Path(sys.argv[2]), Verb(sys.argv[3]), sys.argv[4]
    step = int(sys.argv[5])
    number = 0
    while True:
        for each in (scratch, quarantine):
            shutil.rmtree(each, ignore_errors=True)
            each.mkdir(parents=True)
        site = OfOneStream(scratch, quarantine)
        site.quarantine(NAME, tree=kind == "tree")
        request: Request = site.request(verb, NAME)
        requests.submit(site.settings.state_dir, request)
        pid = os.fork()
        if not pid:
            child(site.settings, number)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            check(site, verb, number)
            break
        check_half(site, verb, number)
        work(site.settings)
        check(site, verb, number)
        number += step
    print(number)


if __name__ == "__main__":
    main()
