"""Jobs whose items arrive as one file: a zip with a manifest of hashes, or a tar.

The items are gathered into a file of ours on this host, and that is delivered like any other file; nothing of it is
seen at the target before.  Where a worker died, it is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tarfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from mistamover.errors import JobRefused, TransportError
from mistamover.files.zips import ZipWriter
from mistamover.jobs import paths
from mistamover.jobs.model import Claim, Item, ItemState, Location, Packaging, Source
from mistamover.jobs.transfer import copying, origins
from mistamover.jobs.transfer.context import Context, Tell
from mistamover.jobs.transfer.copying import Arrived, Wanted
from mistamover.jobs.transfer.expanding import walk
from mistamover.jobs.transfer.faults import Trouble, trouble
from mistamover.jobs.transfer.item_sources import is_web, opened, visited
from mistamover.jobs.transfer.origins import Origin
from mistamover.jobs.transfer.transfers import wanted_of
from mistamover.model import FaultClass, Kind

#: Where the files of a zip are, and the name of what tells their hashes.
_DATA, _MANIFEST = "data", "manifest-md5.txt"

#: Of what is packed, where nobody says anything else.
_USUAL = stat.S_IFREG | 0o644


def package(claim: Claim, items: list[Item], context: Context, tell: Tell) -> tuple[Location, list[Arrived]]:
    """Given a job and the items that it packs, gather and deliver them; return where the package is, and what was
    packed of each.  Raise Trouble, JobRefused, OSError, and what `tell` does.
    """
    job = claim.job
    assert job.package is not None
    directory = context.scratch(job.id)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    try:
        name = f"move-job-{job.id}.{job.packaging.value}"
        made = directory / name
        with made.open("xb") as file, _writer(file, claim) as writer:
            packed = []
            for item in items:
                with _about(item):
                    packed.append(_gathered(item, claim, writer, directory, context, tell))
        context.claims.packaging(claim)
        where = Location(endpoint=job.package.endpoint, path=paths.joined(job.package.path, name))
        last = items[-1]

        def going_on(_: int) -> None:
            tell(last.seq, ItemState.VERIFYING, last.size or 0, last.size)

        # A package that an earlier worker delivered may differ in its times: this one is as good.
        wanted = Wanted(job=job.id, seq=last.seq, overwrite=True)
        with origins.own(made) as origin, visited(where.endpoint, context) as visit:
            copying.deliver(
                origin,
                visit,
                visit.real(where.path),
                wanted,
                context.traces,
                sending=going_on,
                proving=going_on,
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return where, packed


def sweep(directory: Path, busy: Collection[str]) -> int:
    """Given the directory of the jobs and the ids of those under way, remove what dead ones gathered; return how many.

    Done when a worker starts.
    """
    removed = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(directory / "scratch")):
            if entry.name not in busy:
                shutil.rmtree(entry.path, ignore_errors=True)
                removed += 1
    return removed


class _Zip:
    """Members in `data/`, their MD5s in a manifest; as a bag of BagIt, without its declaration."""

    def __init__(self, file: BinaryIO) -> None:
        self._stack = contextlib.ExitStack()
        self._zip = self._stack.enter_context(ZipWriter(file))
        self._lines: list[bytes] = []
        self._taken: set[str] = set()

    def __enter__(self) -> _Zip:
        return self

    def __exit__(self, *failed: Any) -> None:
        if failed[0] is None:
            content = b"".join(self._lines)
            self._zip.file(_MANIFEST.encode(), _status(len(content), 0), [content])
        self._stack.__exit__(*failed)

    def add(self, name: str, path: Path, md5: str, origin: Origin) -> None:
        """Given a name, a file of ours, its MD5 and what it comes from, add it under that name, or one like it."""
        member = f"{_DATA}/{_free(name, self._taken)}".encode("utf-8", "surrogateescape")
        self._put(member, path, origin)
        # A line ends with a newline, whatever is in a name: as md5sum(1) does, and readers of bags.
        shown = member.replace(b"%", b"%25").replace(b"\n", b"%0A").replace(b"\r", b"%0D")
        self._lines.append(md5.encode() + b" " + shown + b"\n")

    def _put(self, member: bytes, path: Path, origin: Origin) -> None:
        with path.open("rb") as file:
            status = _status(path.stat().st_size, origin.mtime_ns, origin.mode)
            self._zip.file(member, status, iter(lambda: file.read(1 << 20), b""))


class _Tar:
    """Members below one directory, in the format that takes every name and size."""

    def __init__(self, file: BinaryIO, top: str) -> None:
        self._stack = contextlib.ExitStack()
        whole = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        self._tar = self._stack.enter_context(whole)
        self._top = top
        self._taken: set[str] = set()

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *failed: Any) -> None:
        self._stack.__exit__(*failed)

    def add(self, name: str, path: Path, md5: str, origin: Origin) -> None:
        """As that of the zip; nothing in it tells a hash."""
        entry = tarfile.TarInfo(f"{self._top}/{_free(name, self._taken)}")
        entry.size = path.stat().st_size
        entry.mtime = (origin.mtime_ns or time.time_ns()) // 10**9
        entry.mode = stat.S_IMODE(origin.mode if origin.mode is not None else _USUAL)
        with path.open("rb") as file:
            self._tar.addfile(entry, file)


def _writer(file: BinaryIO, claim: Claim) -> _Zip | _Tar:
    return _Zip(file) if claim.job.packaging is Packaging.ZIP else _Tar(file, f"move-job-{claim.job.id}")


@contextlib.contextmanager
def _about(item: Item) -> Iterator[None]:
    """Say of what goes wrong which item it is about."""
    try:
        yield
    except (Trouble, TransportError, JobRefused, OSError) as error:
        found = trouble(error)
        found.seq = item.seq
        raise found from error


def _gathered(item: Item, claim: Claim, writer: _Zip | _Tar, directory: Path, context: Context, tell: Tell) -> Arrived:
    """Put an item into the package, all of it if it is a directory; return what was packed."""
    files = _files(item, context, lambda: tell(item.seq, ItemState.STAGING, 0, item.size))
    if files is None:
        return _add(item, claim, writer, directory, context, tell, name="")
    size = 0
    for source, name in files:
        # What a client expects of the whole says nothing of one file in it.
        inner = replace(item, source=source, hash_type="", hash_value="")
        size += _add(inner, claim, writer, directory, context, tell, name=name).size
    return Arrived(algorithm="", digest="", size=size)


def _add(
    item: Item, claim: Claim, writer: _Zip | _Tar, directory: Path, context: Context, tell: Tell, *, name: str
) -> Arrived:
    wanted = wanted_of(item, claim)
    value, md5, size = hashlib.new(wanted.algorithm), hashlib.md5(usedforsecurity=False), 0
    gathered = directory / "member"
    with opened(item, claim, context) as (origin, own_name):
        with gathered.open("wb") as file:
            for piece in origin.pieces():
                value.update(piece)
                md5.update(piece)
                file.write(piece)
                size += len(piece)
                tell(item.seq, ItemState.TRANSFERRING, size, origin.size)
        origin.check()
        if origin.size is not None and size != origin.size:
            raise Trouble(FaultClass.CHANGED, f"the source ended after {size} of {origin.size} bytes")
        wanted.check(value.hexdigest())
        writer.add(name or own_name, gathered, md5.hexdigest(), origin)
    gathered.unlink()
    return Arrived(algorithm=wanted.algorithm, digest=value.hexdigest(), size=size)


def _files(item: Item, context: Context, go_on: Callable[[], None]) -> list[tuple[Source, str]] | None:
    """Return the files of a directory, with their names below it; None if the item is none."""
    location = item.source.location
    if location is None or is_web(location, context):
        return None
    found = []
    with visited(location.endpoint, context) as visit:
        there = visit.look(location.path) if location.path else None
        if location.path and (there is None or there.kind is not Kind.DIRECTORY):
            return None
        top = paths.base_name(location.path)
        for path, kind in walk(visit, location.path):
            go_on()
            if kind is Kind.FILE:
                whole = Location(endpoint=location.endpoint, path=paths.joined(location.path, path))
                found.append((Source(location=whole), paths.joined(top, path)))
            if len(found) > context.settings.front.max_items:
                raise JobRefused("too-many-items", f"{paths.shown(location.path)} holds too many files for one package")
    return found


def _free(name: str, taken: set[str]) -> str:
    """Given a name and those that are taken, return it, or one like it, and take that."""
    stem, dot, ending = name.rpartition(".")
    if not stem or "/" in ending:
        stem, dot, ending = name, "", ""
    number, found = 0, name
    while found in taken:
        number += 1
        found = f"{stem}-{number}{dot}{ending}"
    taken.add(found)
    return found


def _status(size: int, mtime_ns: int, mode: int | None = None) -> os.stat_result:
    kind = _USUAL if mode is None else stat.S_IFREG | stat.S_IMODE(mode) & 0o777
    moment = (mtime_ns or time.time_ns()) // 10**9
    nanoseconds = mtime_ns or time.time_ns()
    return os.stat_result(
        (kind, 0, 0, 1, 0, 0, size, moment, moment, moment),
        {"st_mtime_ns": nanoseconds, "st_atime_ns": nanoseconds, "st_ctime_ns": nanoseconds},
    )
