"""The laws that hold at the end of every test of a stream: conservation, nothing lost, nothing left over."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import support
from mistamover.testing.sshd import PrivateSshd
from support import Agent, Entry, Site, Stream, wait_until

QUARANTINE = b"quarantine/"
MARK = ".mistamover"

#: How a small file goes: goes into `make`'s `everywhere`.
Way = Mapping[str, Mapping[str, object]]

#: For tests of what holds whichever way it goes; the argument is `way`.
BOTH_WAYS = pytest.mark.parametrize(
    "way", [{"rsync_ssh": {"express": True}}, {"rsync_ssh": {"express": False}}], ids=["express", "rsync"]
)

_TEMPORARY = re.compile(r"\..+\.[A-Za-z0-9]{6}", re.DOTALL)


def tree(path: Path) -> dict[bytes, Entry]:
    """Do what `support.tree` does, in a directory in which names come and go."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return support.tree(path)


def contents(path: Path) -> dict[bytes, str | bytes]:
    """Do what `support.contents` does, in a directory in which names come and go."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return support.contents(path)


def make(
    scratch: Path, sshd: PrivateSshd, *, everywhere: Mapping[str, Mapping[str, object]] | None = None, **sections: Any
) -> tuple[Site, Stream]:
    """Given a directory and a server, return a site with one stream that is quick; `sections` go into its file."""
    site = Site(scratch, sshd, **(everywhere or {}))
    quick: dict[str, object] = {"empty_directory_age": 0.5, "settle_time": 0.3, "rescan_interval": 3}
    sections["data_stream"] = {**quick, **sections.get("data_stream", {})}
    return site, site.add("one", **sections)


def digest(data: bytes) -> str:
    """Given content, return its hash in the form of `support.contents`."""
    return hashlib.sha256(data).hexdigest()


def put(path: bytes | str | Path, data: bytes) -> str:
    """Given a path, write a file as a careful producer does not: in place; return the hash of its content."""
    whole = os.fsencode(path)
    os.makedirs(os.path.dirname(whole), exist_ok=True)
    with open(whole, "wb") as file:
        file.write(data)
    return digest(data)


def snapshot(site: Site, stream: Stream) -> dict[str, Any]:
    """Return what the stream's process last published; empty if nothing."""
    try:
        value = json.loads((site.state / "streams" / stream.name / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def waiting(site: Site, stream: Stream) -> set[str]:
    """Return the names that the stream says are waiting."""
    return {unit["name"] for unit in snapshot(site, stream).get("undelivered", ())}


def of(site: Site, stream: Stream) -> dict[str, Any]:
    """Return what `status --json` says about a stream."""
    return next((s for s in site.status().get("streams", ()) if s["name"] == stream.name), {})


def conserves(status: Mapping[str, Any]) -> bool:
    """Given a stream's status, tell whether seen = delivered + quarantined + released + ignored + waiting."""
    ends = ("delivered", "quarantined", "released", "ignored", "waiting")
    return bool(status) and status["seen"] == sum(status[key] for key in ends)


def settled(site: Site, stream: Stream, *, waiting: int = 0, timeout: float = 10) -> dict[str, Any]:
    """Wait until nothing is under way and `waiting` units wait; then the law of conservation must hold."""

    def quiet() -> bool:
        now = snapshot(site, stream)
        return bool(now) and not now["sending"] and now["waiting"] == waiting

    try:
        wait_until(quiet, timeout, f"{waiting} units wait")
    except AssertionError as error:
        raise AssertionError(f"{error}; it says {snapshot(site, stream)}") from None
    status = of(site, stream)
    assert conserves(status), f"not conserved: {status}"
    return status


def no_leftovers(stream: Stream) -> None:
    """Nothing of ours may be left at the target once the stream has ended with nothing half sent."""
    names = [name for name in contents_and_directories(stream.target) if ours(name)]
    assert not names, f"left over at the target: {names[:10]}"


def ours(path: str) -> bool:
    """Given a path at the target, tell whether the agent or its rsync made it for their own use."""
    return MARK in path or _TEMPORARY.fullmatch(os.path.basename(path)) is not None


def contents_and_directories(path: Path) -> list[str]:
    """Return every name below a directory, as text."""
    return [os.path.join(d, n) for d, ds, fs in os.walk(path) for n in (*ds, *fs)]


@contextlib.contextmanager
def lawful(site: Site, stream: Stream, *, waiting: int = 0, timeout: float = 10) -> Iterator[Agent]:
    """Run the agent for the length of the block; when it has ended well, every law must hold."""
    with site.running() as agent:
        yield agent
        settled(site, stream, waiting=waiting, timeout=timeout)
    last = snapshot(site, stream)
    assert conserves(last), f"not conserved at the end: {last}"
    if not waiting:
        no_leftovers(stream)
    assert "Traceback" not in logs(site), logs(site)[-3000:]


def logs(site: Site) -> str:
    """Return everything that the site has logged."""
    return "".join(path.read_text(errors="replace") for path in sorted(site.logs.iterdir()) if path.is_file())


def somewhere(stream: Stream, promised: Mapping[bytes, str | bytes]) -> None:
    """Each promised content must be at the target, or still at the source, or in quarantine: nothing is lost."""
    target, source = contents(stream.target), contents(stream.source)
    lost = [
        name
        for name, content in promised.items()
        if content not in (target.get(name), source.get(name), source.get(QUARANTINE + name))
    ]
    assert not lost, f"lost: {lost[:10]} of {len(lost)}"


def arrived(stream: Stream, promised: Mapping[bytes, str | bytes], timeout: float = 10) -> None:
    """Wait until exactly the promised contents are at the target, and nothing is left at the source."""

    def gone() -> bool:
        return all(not os.path.lexists(os.fsencode(stream.source) + b"/" + name) for name in promised)

    def there() -> bool:
        return all(os.path.lexists(os.fsencode(stream.target) + b"/" + name) for name in promised)

    try:
        wait_until(lambda: there() and gone(), timeout, "all is delivered and removed")
    except AssertionError as error:
        target = contents(stream.target)
        missing = [name for name in promised if name not in target]
        raise AssertionError(f"{error}; not at the target: {missing[:5]} ({len(missing)})") from None
    visible = public(stream)
    wrong = {name: visible.get(name) for name, content in promised.items() if visible.get(name) != content}
    assert not wrong, f"not what was sent: {dict(list(wrong.items())[:5])}"


def public(stream: Stream) -> dict[bytes, str | bytes]:
    """Return the contents at the target that are not ours."""
    return {name: content for name, content in contents(stream.target).items() if not ours(os.fsdecode(name))}


class Witness:
    """A thread that looks at the target for a third of the time, and notes whatever must never be seen."""

    def __init__(self, look: Callable[[], Iterable[str]], *, clock: Callable[[], float] = time.thread_time) -> None:
        """Given what looks once and returns complaints, and the clock of this third, begin with `with`.

        The thread's own time leaves out what a look costs others, such as a server that is asked.
        """
        self._look = look
        self._clock = clock
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.looks = 0
        self.complaints: list[str] = []

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.002
        while not self._end.wait(pause):
            began = self._clock()
            self.looks += 1
            if len(self.complaints) < 20:
                self.complaints.extend(self._look())
            pause = max(0.002, 2 * (self._clock() - began))

    def swear(self) -> None:
        """Assert that it looked, and saw nothing wrong."""
        assert self.looks > 5, "the witness slept"
        assert not self.complaints, f"seen at the target: {self.complaints[:3]}"


def only_versions(path: Path, *versions: bytes) -> Callable[[], Iterable[str]]:
    """Given a final name and its complete versions, return a look that complains about any other content."""

    def look() -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            if data not in versions:
                yield f"{path.name}: {len(data)} bytes that are no version: {data[:40]!r}..{data[-40:]!r}"

    return look


def slow(sections: Mapping[str, Mapping[str, object]], size: int, seconds: float = 3) -> dict[str, Any]:
    """Given sections and a size, return sections with which a send of so many bytes takes so many seconds."""
    limit = {"bandwidth_limit": str(max(1, round(size / 1024 / seconds)))}
    return {**sections, "rsync_ssh": {**sections.get("rsync_ssh", {}), **limit}}


def half_sent(stream: Stream) -> bool:
    """Tell whether some content has arrived at the target under a name of ours."""
    return any(
        os.path.isfile(name) and os.path.getsize(name) > 0
        for name in contents_and_directories(stream.target)
        if ours(name) and not name.endswith("probe")
    )
