"""A stream with a quarantine and no process, for the tests of its desk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from mistamover.config.load import load
from mistamover.config.settings import StreamSettings, TransferMode
from mistamover.files.identity import identity_of
from mistamover.model import FaultClass
from mistamover.stream import requests
from mistamover.stream.books import Books
from mistamover.stream.desk import Desk
from mistamover.stream.ledger import Ledger, Trouble
from mistamover.stream.quarantine import move_away, note_name
from mistamover.stream.requests import Ended, Meant, Request, Verb
from support import Site

CONTENT = b"what must not be lost" * 100


class OfOneStream:
    """The directories, the settings and the ledger of one stream."""

    def __init__(self, scratch: Path, quarantine: Path, *, mirror: bool = False) -> None:
        """Given an empty directory and one for the quarantine, make the stream."""
        self.scratch = scratch
        site = Site(scratch)
        site.add("one")
        settings = load(site.global_ini, {}).stream("one")
        assert settings is not None
        mode = TransferMode.MIRROR if mirror else TransferMode.MOVE
        self.settings: StreamSettings = replace(settings, quarantine_dir=quarantine, mode=mode)
        self.root = self.settings.directory
        self.aside = scratch / "aside"
        self.aside.mkdir()
        self.settings.state_dir.mkdir(parents=True)
        self.looked_at: list[bytes] = []

    @property
    def directories(self) -> list[bytes]:
        """Where units may lie."""
        return [os.fsencode(path) for path in (self.root, self.settings.quarantine_dir, self.aside)]

    def path(self, directory: Path, name: bytes) -> bytes:
        """Given a directory and a name, return the path."""
        return os.fsencode(directory) + b"/" + name

    def make(self, name: bytes, *, tree: bool = False, content: bytes = CONTENT) -> bytes:
        """Make a unit in the stream's directory; return its path."""
        path = self.path(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = path
        if tree:
            os.makedirs(path + b"/sub")
            file = path + b"/sub/file"
            os.symlink("nowhere", path + b"/link")
        with open(file, "wb") as sink:
            sink.write(content)
        os.chmod(file, 0o640)
        os.utime(file, ns=(10**18, 10**18 + 7))
        return path

    def quarantine(self, name: bytes, *, tree: bool = False, moved: bool = True, content: bytes = CONTENT) -> bytes:
        """Make a unit and put it into quarantine as the stream does; return where it lies."""
        path = self.make(name, tree=tree, content=content)
        identity = identity_of(os.lstat(path))
        place = None
        if moved:
            place = move_away(os.fsencode(self.root), name, self.settings.quarantine_dir, "no luck", 0.0)
        trouble = Trouble(
            name=name,
            target="t",
            quarantined=True,
            attempts=3,
            fault=FaultClass.SOURCE,
            reason="no luck",
            since=1.0,
            retry_at=0.0,
            identity=identity if place is None else None,
            moved_to=place,
        )
        with self.ledger() as ledger:
            ledger.note_troubles([trouble])
        return place or path

    def ledger(self) -> Ledger:
        """Return the ledger, open for writing."""
        return Ledger(self.settings.state_dir / "ledger.sqlite")

    def destination(self, verb: Verb) -> Path:
        """Return where units go by this verb."""
        return self.root if verb is Verb.RETRY else self.aside

    def request(self, verb: Verb, *names: bytes, to: bool = True) -> Request:
        """Return a request, of released units with a directory where they go unless `to` is false."""
        place = os.fsencode(self.aside) if verb is Verb.RELEASE and to else None
        with self.ledger() as ledger:
            moved = {trouble.name: trouble.moved_to for trouble in ledger.troubles()}
        return Request(verb=verb, units=tuple(Meant(name, moved.get(name)) for name in names), who="me", to=place)

    def ask(self, verb: Verb, *names: bytes, to: bool = True) -> list[Ended]:
        """Ask, and serve as the stream's process does; return the answer."""
        self.recover()
        return self._asked(self.request(verb, *names, to=to))

    def ask_for(self, verb: Verb, *units: Meant) -> list[Ended]:
        """As above, of units that are meant by where they lie."""
        return self._asked(replace(self.request(verb), units=units))

    def recover(self) -> None:
        """Do what a process does first."""
        with self.ledger() as ledger:
            Desk(Books(self.settings, ledger), lambda name, now: None).recover()

    def _asked(self, request: Request) -> list[Ended]:
        key = requests.submit(self.settings.state_dir, request)
        with self.ledger() as ledger:
            desk = Desk(Books(self.settings, ledger), lambda name, now: self.looked_at.append(name))
            desk.recover()
            desk.serve()
            while desk.busy:
                desk.serve()
        answer = requests.take_answer(self.settings.state_dir, key)
        assert answer is not None
        return list(answer)

    def lies(self, directory: Path, name: bytes) -> bool:
        """Tell whether a unit lies in a directory, whole; a part of it, or one with another content, is an error."""
        return _lies(self.path(directory, name))

    def lies_in_quarantine(self, name: bytes) -> bool:
        """As above, of the quarantine."""
        return self.lies(self.settings.quarantine_dir, name)

    def has_note(self, name: bytes) -> bool:
        """Tell whether the note lies beside a unit in quarantine."""
        return os.path.lexists(note_name(self.path(self.settings.quarantine_dir, name)))


def _lies(path: bytes) -> bool:
    if not os.path.lexists(path):
        return False
    file = path
    if os.path.isdir(path):
        file = path + b"/sub/file"
        assert os.readlink(path + b"/link") == b"nowhere"
    with open(file, "rb") as source:
        assert source.read() == CONTENT
    status = os.stat(file)
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 10**18 + 7)
    return True
