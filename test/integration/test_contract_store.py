"""The contract of transports, kept on top of a store: no directories, no rename, and what is shown there is whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import pytest

import contract
from contract import Contract, End, Traits, Watcher, confirmed, deliver, fault
from mistamover.config.settings import Verify
from mistamover.errors import LinkError
from mistamover.model import FaultClass, Kind
from mistamover.transport.by_file import ByFile
from mistamover.transport.far import FarRefusal, Means, There
from support import Entry


class Store:
    """Objects by their whole names, one file for each."""

    def __init__(self, directory: Path, *, spoil: bool = False) -> None:
        self._directory = directory
        self._spoil = spoil
        self._cut = False

    def connect(self) -> Means:
        return Means(
            description="a store of objects",
            rename=False,
            whole=True,
            directories=False,
            links=False,
            attributes=False,
            flush=False,
            hashes=(),
            resume=False,
            side_by_side=4,
        )

    def look(self, path: bytes) -> There | None:
        try:
            status = self._object(path).stat()
        except FileNotFoundError:
            return None
        return There(kind=Kind.FILE, size=status.st_size, mtime=status.st_mtime)

    def names(self, path: bytes) -> list[bytes]:
        prefix = path + b"/" if path else b""
        below = [name.removeprefix(prefix) for name in self.objects() if name.startswith(prefix)]
        return list({name.partition(b"/")[0] for name in below})

    def make_directory(self, path: bytes) -> None:
        raise AssertionError("not one of our means")

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        part = self._directory / f"upload {os.getpid()} {os.urandom(4).hex()}"
        try:
            with part.open("wb") as file:
                while piece := os.pread(source, min(1 << 20, size - offset), offset):
                    file.write(b"?" * len(piece) if self._spoil else piece)
                    offset += len(piece)
                    told(offset)
                    self._object(path)
            part.rename(self._object(path))
        finally:
            part.unlink(missing_ok=True)

    def read(self, path: bytes) -> Iterator[bytes]:
        with self._object(path).open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece

    def digest(self, path: bytes, algorithm: str) -> str:
        raise AssertionError("not one of our means")

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        raise AssertionError("not one of our means")

    def flush(self, paths: Sequence[bytes]) -> None:
        raise AssertionError("not one of our means")

    def rename(self, old: bytes, new: bytes) -> None:
        raise AssertionError("not one of our means")

    def symlink(self, text: bytes, path: bytes) -> None:
        raise AssertionError("not one of our means")

    def remove(self, path: bytes) -> None:
        self._object(path).unlink(missing_ok=True)

    def remove_directory(self, path: bytes) -> None:
        raise AssertionError("not one of our means")

    def free(self) -> int | None:
        return None

    def abort(self) -> None:
        self._cut = True

    def close(self) -> None:
        self._cut = True

    def objects(self) -> dict[bytes, Path]:
        """Return every object by its name."""
        return {
            unquote_to_bytes(path.name[2:]): path for path in self._directory.iterdir() if path.name.startswith("o-")
        }

    def _object(self, path: bytes) -> Path:
        if self._cut:
            raise LinkError("the connection was cut")
        if len(path) > 80:
            raise FarRefusal("a name of more than 80 bytes")
        return self._directory / f"o-{quote(path, safe='')}"


class _End(End):
    traits = Traits(
        links=False, directories=False, attributes=False, reserve=False, takes=lambda name: 2 * len(name) + 9 <= 80
    )
    spoil = False

    def tree(self) -> dict[bytes, Entry]:
        """See `End.tree`."""
        found = {}
        for name, path in Store(self.target).objects().items():
            with path.open("rb") as file:
                found[name] = Entry("file", hashlib.file_digest(file, "sha256").hexdigest(), 0, 0)
        return found

    def plant(self, name: bytes, content: bytes) -> None:
        """See `End.plant`."""
        (self.target / f"o-{quote(name, safe='')}").write_bytes(content)

    def uproot(self, name: bytes) -> None:
        """See `End.uproot`."""
        (self.target / f"o-{quote(name, safe='')}").unlink()


def store(place: Path, *, spoil: bool = False) -> _End:
    """Return the two ends of a transport to a store."""
    return _End(
        place,
        lambda end, target, keep: ByFile(
            lambda: Store(end.target, spoil=spoil),
            source=os.fsencode(end.source),
            target=target,
            run_dir=end.run,
            owner="me",
            keep_extra=keep,
        ),
    )


class TestStore(Contract):
    @pytest.fixture
    def end(self, scratch: Path) -> Iterator[End]:
        made = store(scratch)
        yield made
        made.close()


def test_what_is_not_what_was_sent_does_not_stay(scratch: Path) -> None:
    made = store(scratch, spoil=True)
    verdict = deliver(made.transport(), [made.put("file")])[b"file"]
    assert fault(verdict) is FaultClass.REFUSED
    assert made.files() == {}


def test_sizes_only_where_that_is_asked_for(scratch: Path) -> None:
    made = store(scratch, spoil=True)
    transport = made.transport(verify=Verify.SIZE)
    assert "only sizes" in transport.open().description
    confirmed(deliver(transport, [made.put("file")]))


def test_one_that_changes_under_way_is_never_seen(scratch: Path) -> None:
    made = store(scratch)
    made.plant(b"big", b"the old one")
    unit = made.sparse("big", 8 << 20)

    def change(_: int) -> None:
        with (made.source / "big").open("ab") as file:
            file.write(b"more")

    assert fault(deliver(made.transport(), [unit], Watcher(progressed=change))[b"big"]) is FaultClass.CHANGED
    assert made.files() == {b"big": hashlib.sha256(b"the old one").hexdigest()}


@pytest.mark.parametrize("when", ["connecting", "writing"])
def test_helpers_that_fail_cost_nothing(scratch: Path, when: str) -> None:
    """A server that takes one connection only, or loses the others: the first one does it all."""
    made = store(scratch)
    connections: list[Store] = []

    class _Lonely(Store):
        def connect(self) -> Means:
            connections.append(self)
            if when == "connecting" and len(connections) > 1:
                raise LinkError("too many connections")
            return super().connect()

        def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
            if self is not connections[0]:
                raise LinkError("lost")
            super().write(path, source, size, offset, told)

    transport = ByFile(
        lambda: _Lonely(made.target),
        source=os.fsencode(made.source),
        target=contract.settings(),
        run_dir=made.run,
        owner="me",
        keep_extra=False,
    )
    confirmed(deliver(transport, [made.put(f"file {number}") for number in range(40)]))
    assert len(connections) > 1
    assert len(made.files()) == 40
