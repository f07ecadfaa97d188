"""What every transport must do, written once: a class of tests to be inherited for each protocol.

A protocol's own test module makes an `End` (its fixture `end`): two ends, one of them looked at without the transport.
What one protocol cannot do and another can is data (`Traits`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import support
from integration.test_move import KEPT_NAMES
from laws import Witness, ours
from mistamover.config.settings import SshSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.files import digests
from mistamover.files.identity import identity_of, kind_of
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Identity, Kind, TreeEntry, Unit, Verdict
from mistamover.transport.base import Transport, Zip
from support import Entry, wait_until

BIG = 20 * 1024 * 1024

#: So large that nobody is through with it before something happens.
HUGE = 96 * 1024 * 1024

#: Contents of what is no file, or has nothing in it.
_NOTHING = (b"", hashlib.sha256().hexdigest())

_NO_SSH = SshSettings(
    rsync=("rsync",),
    ssh=("ssh",),
    username=None,
    port=None,
    identity_file=None,
    ssh_config=None,
    use_checksum=False,
    bandwidth_limit=None,
    ciphers=None,
    compress=False,
    connect_timeout=10,
    express=True,
)


def settings(**changes: object) -> TargetSettings:
    """Return the settings of a target; what is given replaces what most tests have in common."""
    made = TargetSettings(
        name="target",
        protocol="of a test",
        host="localhost",
        directory="/nowhere",
        stop_file=".stop",
        stop_file_poll_interval=1,
        required=True,
        hash="xxh128",
        ssh=_NO_SSH,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What the far end of a protocol can hold; the transport says the rest itself (`Capabilities`)."""

    links: bool = True
    directories: bool = True
    """Empty ones as well."""
    attributes: bool = True
    """Modes and times."""
    resolution: int = 1
    """Nanoseconds that times are kept to."""
    takes: Callable[[bytes], bool] = lambda _: True
    """Tells whether it can hold a name: others are refused."""
    reserve: bool = True
    """It says how much is free."""
    notices_changes: bool = True
    """Its verdict tells of a change under way; where not, the hand-over, which looks at each file again, does."""
    huge: int = HUGE
    """A size that takes a noticeable time."""


class End:
    """Two ends of one protocol; the far one is a directory of this machine unless a subclass knows better."""

    traits = Traits()
    clock = staticmethod(time.thread_time)
    """Of a witness, which looks for a third of the time."""

    def __init__(self, place: Path, make: Callable[[End, TargetSettings, bool], Transport], **changes: object) -> None:
        """Given an empty directory, what makes a transport (given the settings of its target, and whether what a
        directory unit does not hold is kept), and settings of the target, be ready.
        """
        self.source, self.target, self.run = place / "source", place / "target", place / "run"
        for directory in (self.source, self.target):
            directory.mkdir(exist_ok=True)
        self.run.mkdir(mode=0o700)
        self._make = make
        self._changes: dict[str, object] = {"directory": os.fspath(self.target), **changes}
        self._open: list[Transport] = []

    def transport(self, *, keep_extra: bool = False, **changes: object) -> Transport:
        """Return a new transport, as a new process would have it."""
        made = self._make(self, settings(**{**self._changes, **changes}), keep_extra)
        self._open.append(made)
        return made

    def slowly(self) -> Transport:
        """Return a new transport that takes many seconds for something huge, where it is not quick to be stopped."""
        return self.transport()

    def close(self) -> None:
        """End every transport, the last one in order."""
        for transport in self._open:
            transport.close(finished=transport is self._open[-1])

    # -- the far end, looked at from outside ---------------------------------------------------

    def tree(self) -> dict[bytes, Entry]:
        """Return all that is at the target, what is ours included."""
        return support.tree(self.target)

    def plant(self, name: bytes, content: bytes) -> None:
        """Put a file at the target by another way."""
        path = os.fsencode(self.target) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    def uproot(self, name: bytes) -> None:
        """Remove a file at the target by another way."""
        os.unlink(os.fsencode(self.target) + b"/" + name)

    def unreachable(self) -> Transport | None:
        """Return a transport to where nobody is; None where there is no such thing."""
        return None

    # -- what is made of these ------------------------------------------------------------------

    def public(self) -> dict[bytes, Entry]:
        """Return what is at the target under other people's names."""
        return {name: entry for name, entry in self.tree().items() if not ours(os.fsdecode(name))}

    def files(self) -> dict[bytes, str | bytes]:
        """Return contents by name, without directories."""
        return {name: entry.content for name, entry in self.public().items() if entry.kind != "directory"}

    def leftovers(self) -> list[bytes]:
        """Return names of our own at the target."""
        return [name for name in self.tree() if ours(os.fsdecode(name))]

    def put(self, name: bytes | str, content: bytes = b"content", *, mode: int = 0o644) -> Unit:
        """Write a file at the source; return its unit."""
        name = os.fsencode(name)
        path = os.fsencode(self.source) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        os.utime(path, ns=(10**18 + 123456789, 10**18 + 987654321))
        return self.unit(name)

    def sparse(self, name: str, size: int) -> Unit:
        """Make a large file at the source; return its unit."""
        path = self.source / name
        block = os.urandom(1 << 20)
        with path.open("wb") as file:
            for number in range(size >> 20):
                file.write(number.to_bytes(4, "big") + block[4:])
        return self.unit(os.fsencode(name))

    def unit(self, name: bytes) -> Unit:
        """Return the unit of what has a name at the source."""
        status = os.lstat(os.fsencode(self.source) + b"/" + name)
        return Unit(name=name, kind=kind_of(status), identity=identity_of(status), links=status.st_nlink)

    def tree_unit(self, name: str) -> Unit:
        """Return the directory unit of a name at the source."""
        top = self.source / name
        entries = [
            TreeEntry(name=os.fsencode(path.relative_to(top)), kind=kind_of(status), identity=identity_of(status))
            for path in top.rglob("*")
            for status in [path.lstat()]
        ]
        identity = identity_of(top.lstat())
        return Unit(name=os.fsencode(name), kind=Kind.TREE, identity=identity, manifest=tuple(entries))

    def expected(self) -> dict[bytes, Entry]:
        """Return what is at the source."""
        return support.tree(self.source)

    def same(self, found: dict[bytes, Entry], expected: dict[bytes, Entry]) -> None:
        """Assert that two trees are equal, as far as the far end can hold that."""
        comparable = self._comparable
        assert sorted(comparable(found)) == sorted(comparable(expected))
        assert comparable(found) == comparable(expected)

    def _comparable(self, tree: dict[bytes, Entry]) -> dict[bytes, tuple[object, ...]]:
        result: dict[bytes, tuple[object, ...]] = {}
        for name, entry in tree.items():
            if entry.kind == "directory":
                # Its time is that of the last change in it: here, or there.
                if self.traits.directories:
                    result[name] = (entry.kind, entry.mode if self.traits.attributes else 0)
            elif entry.kind == "link" or not self.traits.attributes:
                result[name] = (entry.kind, entry.content)
            else:
                time_ns = entry.mtime_ns // self.traits.resolution
                result[name] = (entry.kind, entry.content, entry.mode, time_ns)
        return result


class Watcher:
    """A guard without leases, except for descriptors that a test hands in."""

    def __init__(
        self,
        handles: dict[bytes, int] | None = None,
        *,
        sent: Callable[[bytes], None] = lambda _: None,
        progressed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._deadline: float | None = None
        self.handles = handles or {}
        self.names: list[bytes] = []
        self._sent = sent
        self._progressed = progressed

    def fileno(self) -> int:
        return self._event

    def handle(self, name: bytes) -> int | None:
        return self.handles.get(name)

    def sent(self, name: bytes) -> None:
        self.names.append(name)
        self._sent(name)

    def read_enough(self) -> None:
        pass

    def progressed(self, size: int) -> None:
        self._progressed(size)

    def deadline(self) -> float | None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        return self._deadline

    def give_up(self) -> None:
        """Ask for the end of the attempt."""
        self._deadline = time.monotonic()
        os.eventfd_write(self._event, 1)

    def close(self) -> None:
        os.close(self._event)


def deliver(transport: Transport, units: Sequence[Unit], guard: Watcher | None = None) -> dict[bytes, Verdict]:
    """Deliver a batch; return the verdicts by name: there must be one for each unit."""
    own = guard or Watcher()
    try:
        batch = Batch(number=1, units=tuple(units), size=sum(unit.identity.size for unit in units))
        verdicts = transport.deliver(batch, own)
    finally:
        own.close()
    assert sorted(verdict.unit.name for verdict in verdicts) == sorted(unit.name for unit in units)
    return {verdict.unit.name: verdict for verdict in verdicts}


def confirmed(verdicts: dict[bytes, Verdict]) -> dict[bytes, Confirmed]:
    """Assert that all is confirmed; return it."""
    failed = [f"{v.unit.name!r}: {v.fault} {v.reason}" for v in verdicts.values() if isinstance(v, Failed)]
    assert not failed, failed[:5]
    return {name: verdict for name, verdict in verdicts.items() if isinstance(verdict, Confirmed)}


def fault(verdict: Verdict) -> FaultClass:
    """Assert that a unit failed; return whose fault it was."""
    assert isinstance(verdict, Failed), verdict
    return verdict.fault


def digest_of(content: bytes, algorithm: str) -> str:
    value = digests.new(algorithm)
    value.update(content)
    return value.hexdigest()


def only(end: End, **versions: Sequence[bytes]) -> Callable[[], Iterable[str]]:
    """Given complete versions by name, return a look at the target that complains about anything else there."""
    known = {name.encode(): {hashlib.sha256(v).hexdigest() for v in each} for name, each in versions.items()}

    def look() -> Iterator[str]:
        for name, content in end.files().items():
            if content not in known.get(name, ()):
                yield f"{name!r} is not what it should be"

    return look


class Contract:
    """The tests. A subclass has a fixture `end` that yields an `End` and closes it."""

    @pytest.fixture
    def transport(self, end: End) -> Transport:
        made = end.transport()
        made.open()
        return made

    @pytest.fixture(autouse=True)
    def nothing_left(self, end: End) -> Iterator[None]:
        yield
        end.close()
        assert end.leftovers() == []

    def test_hundreds_of_files_as_they_are(self, end: End, transport: Transport) -> None:
        names = [name for name in KEPT_NAMES if end.traits.takes(name)]
        for number, name in enumerate(names):
            end.put(name, name * 5, mode=(0o644, 0o600, 0o755)[number % 3])
            end.put(b"deep/%s/er" % name, b"below " + name)
        for number in range(500 - 2 * len(names)):
            end.put(f"d{number % 7}/file {number}", os.urandom(number * 20), mode=0o640)
        (end.source / "d1").chmod(0o750)
        files = {name: entry for name, entry in end.expected().items() if entry.kind == "file"}
        verdicts = confirmed(deliver(transport, [end.unit(name) for name in files]))
        end.same(end.public(), end.expected())
        for name, verdict in verdicts.items():
            content = (Path(os.fsdecode(os.fsencode(end.source) + b"/" + name))).read_bytes()
            assert verdict.digest == digest_of(content, verdict.algorithm or "xxh128")

    def test_names_that_it_cannot_hold_are_refused(self, end: End, transport: Transport) -> None:
        names = [name for name in KEPT_NAMES if not end.traits.takes(name)]
        if not names:
            pytest.skip("it can hold any name")
        verdicts = deliver(transport, [end.put(name) for name in [*names, b"good"]])
        assert {fault(verdicts[name]) for name in names} == {FaultClass.REFUSED}
        assert set(end.files()) == {b"good"}

    def test_an_empty_file_and_a_big_one(self, end: End, transport: Transport) -> None:
        units = [end.put("empty", b""), end.sparse("big", BIG)]
        for unit in units:
            confirmed(deliver(transport, [unit]))
        end.same(end.public(), end.expected())

    def test_empty_directories(self, end: End, transport: Transport) -> None:
        for name, mode in (("one", 0o750), ("deep/er", 0o700)):
            (end.source / name).mkdir(parents=True)
            (end.source / name).chmod(mode)
        confirmed(deliver(transport, [end.unit(b"one"), end.unit(b"deep/er")]))
        end.same(end.public(), end.expected())

    def test_links_are_sent_as_links(self, end: End, transport: Transport) -> None:
        end.put("file")
        (end.source / "sub").mkdir()
        for name, text in (("to-file", "file"), ("sub/dangling", "no/such"), ("out", "/etc"), ("sub/up", "..")):
            (end.source / name).symlink_to(text)
        units = [end.unit(name) for name in (b"to-file", b"sub/dangling", b"out", b"sub/up", b"file")]
        verdicts = deliver(transport, units)
        if end.traits.links:
            confirmed(verdicts)
            end.same(end.public(), end.expected())
            # Again, over what is there.
            confirmed(deliver(transport, units))
        else:
            assert {fault(verdicts[unit.name]) for unit in units[:-1]} == {FaultClass.REFUSED}
            assert set(end.files()) == {b"file"}

    def test_a_file_takes_the_place_of_another(self, end: End, transport: Transport) -> None:
        versions = [b"old" * 10_000, b"new and longer" * 10_000, b"short"]
        with Witness(only(end, file=versions), clock=end.clock) as witness:
            for content in versions:
                confirmed(deliver(transport, [end.put("file", content)]))
        assert not witness.complaints
        assert end.files() == {b"file": hashlib.sha256(versions[-1]).hexdigest()}

    def test_names_of_one_file(self, end: End, transport: Transport) -> None:
        end.put("a", b"shared")
        os.link(end.source / "a", end.source / "b")
        confirmed(deliver(transport, [end.unit(b"a"), end.unit(b"b")]))
        assert end.files() == {name: hashlib.sha256(b"shared").hexdigest() for name in (b"a", b"b")}

    # -- what happens at the source meanwhile ---------------------------------------------------

    def test_it_reads_the_descriptor_that_was_judged(self, end: End, transport: Transport) -> None:
        units = [end.put(f"file {number}", b"%d" % number) for number in range(5)]
        handles = {unit.name: os.open(end.source / os.fsdecode(unit.name), os.O_RDONLY) for unit in units}
        guard = Watcher(handles)
        try:
            confirmed(deliver(transport, units, guard))
        finally:
            for handle in handles.values():
                os.close(handle)
        assert sorted(guard.names) == sorted(unit.name for unit in units)
        end.same(end.public(), end.expected())

    def test_one_that_has_changed(self, end: End, transport: Transport) -> None:
        units = [end.put("changed"), end.put("good")]
        (end.source / "changed").write_bytes(b"another content")
        verdicts = deliver(transport, units)
        assert fault(verdicts[b"changed"]) is FaultClass.CHANGED
        assert isinstance(verdicts[b"good"], Confirmed)

    def test_one_that_changes_under_way(self, end: End) -> None:
        unit = end.sparse("big", BIG)
        path, done = end.source / "big", []

        def change(_: int) -> None:
            if not done:
                done.append(True)
                with path.open("r+b") as file:
                    file.write(b"changed")

        verdicts = deliver(end.slowly(), [unit], Watcher(progressed=change))
        assert done, "it went too quickly to tell how far it was"
        if end.traits.notices_changes:
            assert fault(verdicts[b"big"]) is FaultClass.CHANGED
        confirmed(deliver(end.transport(), [end.unit(b"big")]))
        end.same(end.public(), end.expected())

    def test_one_that_is_gone(self, end: End, transport: Transport) -> None:
        units = [end.put(name) for name in ("gone", "deep/gone", "good")]
        (end.source / "gone").unlink()
        (end.source / "deep/gone").unlink()
        (end.source / "deep").rmdir()
        verdicts = deliver(transport, units)
        assert {fault(verdicts[name]) for name in (b"gone", b"deep/gone")} == {FaultClass.VANISHED}
        assert set(end.files()) == {b"good"}

    def test_one_that_is_refused_harms_no_other(self, end: End, transport: Transport) -> None:
        if not end.traits.directories:
            pytest.skip("nothing is in the way of a name")
        end.plant(b"taken/by a directory", b"that is not empty")
        verdicts = deliver(transport, [end.put(name) for name in ("before", "taken", "yes")])
        assert fault(verdicts[b"taken"]) is FaultClass.REFUSED
        assert isinstance(verdicts[b"before"], Confirmed) and isinstance(verdicts[b"yes"], Confirmed)
        assert set(end.files()) == {b"before", b"yes", b"taken/by a directory"}

    # -- ends before the end --------------------------------------------------------------------

    def test_it_is_given_up_in_the_middle(self, end: End) -> None:
        transport = end.slowly()
        unit = end.sparse("huge", end.traits.huge)
        told: list[int] = []

        def give_up(size: int) -> None:
            told.append(size)
            if len(told) == 1:
                guard.give_up()

        guard = Watcher(progressed=give_up)
        verdicts = deliver(transport, [unit], guard)
        assert told and told[-1] < end.traits.huge, "it was sent to its end all the same"
        assert fault(verdicts[b"huge"]) is FaultClass.ABANDONED
        assert end.files() == {}
        confirmed(deliver(transport, [end.put("small")]))
        confirmed(deliver(end.transport(), [unit]))
        end.same(end.public(), end.expected())

    def test_it_is_given_up_before_it_begins(self, end: End, transport: Transport) -> None:
        guard = Watcher()
        guard.give_up()
        units = [end.put(f"file {number}") for number in range(3)]
        verdicts = deliver(transport, units, guard)
        assert {fault(v) for v in verdicts.values() if isinstance(v, Failed)} <= {FaultClass.ABANDONED}
        confirmed(deliver(transport, units))

    def test_it_is_cut_from_another_thread(self, end: End) -> None:
        transport = end.slowly()
        unit = end.sparse("huge", end.traits.huge)
        cut: list[threading.Thread] = []

        def abort(_: int) -> None:
            if not cut:
                cut.append(threading.Thread(target=transport.abort))
                cut[0].start()
                cut[0].join(10)

        try:
            verdicts = deliver(transport, [unit], Watcher(progressed=abort))
        except LinkError:
            pass
        else:
            if isinstance(verdicts[b"huge"], Confirmed):
                pytest.skip("it was through before it could be cut")
            assert fault(verdicts[b"huge"]) is FaultClass.LINK
        assert cut and not cut[0].is_alive()
        assert end.files() == {}
        small = end.put("small")

        def works_again() -> bool:
            # A stream tries again as well, in case it has not been noticed yet that the connection is gone.
            with contextlib.suppress(LinkError):
                transport.open()
                return bool(confirmed(deliver(transport, [small])))
            return False

        wait_until(works_again, 20, "it connects anew")
        confirmed(deliver(end.transport(), [unit]))
        end.same(end.public(), end.expected())

    @pytest.mark.parametrize("what", ["many", "huge", "tree"])
    def test_it_is_killed_in_the_middle(self, end: End, what: str) -> None:
        versions = {f"file{number:02}": os.urandom(50_000 + number) for number in range(30)}
        known: dict[str, list[bytes]] = {}
        if what == "huge":
            units = [end.sparse("huge", end.traits.huge)]
            known = {"huge": [(end.source / "huge").read_bytes()]}
        elif what == "many":
            units = [end.put(name, content) for name, content in versions.items()]
            known = {name: [content] for name, content in versions.items()}
        else:
            first = end.transport()
            self._trees(first)
            first.close(finished=True)
            for name, content in versions.items():
                end.put(f"tree/{name}", content)
            units = [end.tree_unit("tree")]
        watching = Witness(only(end, **known), clock=end.clock) if what != "tree" else contextlib.nullcontext()
        with watching as witness:
            self._deliver_and_be_killed(end, units, after=15)
        assert not (witness and witness.complaints)
        second = end.transport()
        second.open()
        if what == "tree":
            assert not end.files()
        # What may be gone on with lies in a place of its own; anything else half written is gone.
        beside = [name for name in end.leftovers() if not name.startswith(b".mistamover")]
        half = [name for name in end.leftovers() if what == "many" and end.tree()[name].content not in _NOTHING]
        assert not beside and not half
        if what != "tree":
            assert not list(only(end, **known)())
        confirmed(deliver(second, units))
        end.same(end.public(), end.expected())

    def _deliver_and_be_killed(self, end: End, units: Sequence[Unit], *, after: int) -> None:
        """Let a process of its own deliver, and kill it when it has sent so many files, or some of one."""
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            seen = []

            def stop(_: object) -> None:
                seen.append(1)
                if len(seen) == (after if len(units) > 1 or units[0].kind is Kind.TREE else 1):
                    os.write(tell, b"now")
                    signal.pause()

            try:
                transport = end.slowly()
                transport.open()
                single = len(units) == 1 and units[0].kind is not Kind.TREE
                guard = Watcher(sent=stop, progressed=stop if single else lambda _: None)
                deliver(transport, units, guard)
            finally:
                os.write(tell, b"end")
                os._exit(0)
        os.close(tell)
        try:
            assert os.read(told, 3) == b"now", "it was through before it could be killed"
        finally:
            os.close(told)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    # -- directory units and zips ---------------------------------------------------------------

    def _trees(self, transport: Transport) -> None:
        if not transport.open().trees:
            pytest.skip("directory units travel as zips")

    def test_a_directory_unit_appears_whole(self, end: End, transport: Transport) -> None:
        self._trees(transport)
        for number in range(60):
            end.put(f"unit/d{number % 3}/file {number}", b"%d" % number * 100)
        (end.source / "unit/empty").mkdir(mode=0o750)
        if end.traits.links:
            (end.source / "unit/link").symlink_to("d1")

        def look() -> Iterator[str]:
            found = len([name for name in end.files() if name.startswith(b"unit/")])
            if found and found < 60:
                yield f"{found} of 60 files"

        with Witness(look, clock=end.clock) as witness:
            [verdict] = confirmed(deliver(transport, [end.tree_unit("unit")])).values()
        assert not witness.complaints
        assert len(verdict.parts) == 60 + 3 + 1 + end.traits.links
        end.same(end.public(), end.expected())

    @pytest.mark.parametrize("keep", [True, False])
    def test_a_directory_unit_again(self, end: End, keep: bool) -> None:
        transport = end.transport(keep_extra=keep)
        self._trees(transport)
        end.put("unit/a", b"old")
        end.put("unit/sub/b", b"old")
        end.put("unit/only/c", b"old")
        confirmed(deliver(transport, [end.tree_unit("unit")]))
        for path in ("unit/only/c", "unit/sub/b"):
            (end.source / path).unlink()
        (end.source / "unit/only").rmdir()
        end.put("unit/a", b"new")
        end.put("unit/sub/d", b"new")
        confirmed(deliver(transport, [end.tree_unit("unit")]))
        old, new = (hashlib.sha256(content).hexdigest() for content in (b"old", b"new"))
        expected = {b"unit/a": new, b"unit/sub/d": new}
        if keep:
            expected |= {b"unit/sub/b": old, b"unit/only/c": old}
        assert end.files() == expected

    def test_a_directory_unit_that_changes(self, end: End, transport: Transport) -> None:
        self._trees(transport)
        for number in range(5):
            end.put(f"unit/{number}")
        unit = end.tree_unit("unit")
        end.put("unit/3", b"changed")
        if end.traits.notices_changes:
            assert fault(deliver(transport, [unit])[b"unit"]) is FaultClass.CHANGED
            assert end.files() == {}
        (end.source / "unit/3").unlink()
        verdict = deliver(transport, [unit])[b"unit"]
        assert fault(verdict) in (FaultClass.VANISHED, FaultClass.CHANGED), verdict
        assert end.files() == {}

    def _zip(
        self,
        end: End,
        transport: Transport,
        content: bytes,
        *,
        replaces: Sequence[Identity] = (),
        unchanged: Callable[[], bool] = lambda: True,
    ) -> Verdict:
        place = end.source.parent / "zips"
        place.mkdir(exist_ok=True)
        (place / "run.zip").write_bytes(content)
        os.utime(place / "run.zip", (10**9, 10**9))
        names = [b"run.zip", b"run.1.zip", b"run.2.zip"]
        guard = Watcher()
        try:
            path = os.fsencode(place / "run.zip")
            made = Zip(path=path, names=names, replaces=replaces, unchanged=unchanged)
            return transport.deliver_zip(made, guard)
        finally:
            guard.close()

    def test_zips_replace_nothing(self, end: End, transport: Transport) -> None:
        contents = [b"first" * 1000, b"other" * 1000, b"third" * 1000]
        for content, name in zip(contents, (b"run.zip", b"run.1.zip", b"run.2.zip"), strict=True):
            verdict = self._zip(end, transport, content)
            assert isinstance(verdict, Confirmed)
            assert (verdict.unit.name, verdict.digest) == (
                name,
                digest_of(content, verdict.algorithm or "xxh128"),
            )
        assert fault(self._zip(end, transport, b"fourth")) is FaultClass.REFUSED
        verdict = self._zip(end, transport, contents[1])
        assert isinstance(verdict, Confirmed) and verdict.unit.name == b"run.1.zip"
        assert sorted(end.files()) == [b"run.1.zip", b"run.2.zip", b"run.zip"]

    def test_a_zip_that_is_to_be_made_again(self, end: End, transport: Transport) -> None:
        verdict = self._zip(end, transport, b"zip" * 1000, unchanged=lambda: False)
        assert fault(verdict) is FaultClass.CHANGED
        assert end.files() == {}

    def test_a_zip_whose_name_is_taken_in_the_last_moment(self, end: End, transport: Transport) -> None:
        def take() -> bool:
            end.plant(b"run.zip", b"somebody else's")
            return True

        assert fault(self._zip(end, transport, b"zip" * 1000, unchanged=take)) is FaultClass.ABANDONED
        assert end.files() == {b"run.zip": hashlib.sha256(b"somebody else's").hexdigest()}

    def test_a_mirror_replaces_its_own_zip(self, end: End, transport: Transport) -> None:
        if not end.traits.attributes:
            pytest.skip("it cannot tell its own by the time")
        assert isinstance(self._zip(end, transport, b"one" * 1000), Confirmed)
        old = identity_of((end.source.parent / "zips/run.zip").lstat())
        verdict = self._zip(end, transport, b"other" * 1000, replaces=[old])
        assert isinstance(verdict, Confirmed) and verdict.unit.name == b"run.zip"
        assert end.files() == {b"run.zip": hashlib.sha256(b"other" * 1000).hexdigest()}

    # -- small acts -----------------------------------------------------------------------------

    def test_names_are_removed(self, end: End, transport: Transport) -> None:
        if not transport.open().removal:
            pytest.skip("nothing is removed there")
        confirmed(deliver(transport, [end.put(name) for name in ("a", "d/b", "d/c", "e/f")]))
        names = [b"a", b"d/b", b"d/c", b"never/there"]
        gone = transport.remove([*names, b"d", b"e"] if end.traits.directories else names)
        assert set(gone) == {*names, *([b"d"] if end.traits.directories else [])}
        assert set(end.files()) == {b"e/f"}

    def test_a_probe(self, end: End, transport: Transport) -> None:
        before = end.public()
        transport.probe()
        assert end.public() == before

    def test_the_stop_file(self, end: End, transport: Transport) -> None:
        assert not transport.suspended()
        end.plant(b".stop", b"")
        assert transport.suspended()
        end.uproot(b".stop")
        assert not transport.suspended()

    def test_room_that_is_to_stay_free(self, end: End) -> None:
        if not end.traits.reserve:
            pytest.skip("nobody can tell what is free")
        transport = end.transport(reserve=1 << 60)
        transport.open()
        with pytest.raises(TargetError, match="target_reserve"):
            deliver(transport, [end.put("file")])
        with pytest.raises(TargetError, match="target_reserve"):
            transport.probe()
        assert end.files() == {}

    def test_nobody_is_there(self, end: End) -> None:
        transport = end.unreachable()
        if transport is None:
            pytest.skip("it is always there")
        for act in (transport.open, transport.suspended, transport.probe):
            with pytest.raises(LinkError):
                act()
        with pytest.raises(LinkError):
            deliver(transport, [end.put("file")])
        transport.close(finished=True)

    def test_two_lanes(self, end: End, transport: Transport) -> None:
        batches = [[end.put(f"{lane}/{number}", os.urandom(1000)) for number in range(40)] for lane in "ab"]
        verdicts: list[dict[bytes, Verdict]] = []
        threads = [threading.Thread(target=lambda b=b: verdicts.append(deliver(transport, b))) for b in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for each in verdicts:
            confirmed(each)
        assert len(verdicts) == 2
        wait_until(lambda: len(end.files()) == 80, 10, "all are there")
        end.same(end.public(), end.expected())
