"""The express way by itself, over a real connection: what becomes of a batch when an end of it misbehaves."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from mistamover.errors import LinkError
from mistamover.files.identity import identity_of
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.testing.sshd import PrivateSshd
from support import wait_until
from ways import Watcher, Way


@pytest.fixture
def way(scratch: Path, sshd: PrivateSshd) -> Iterator[Way]:
    """A transport that is open, with a receiver that has delivered one file."""
    made = Way(scratch, sshd)
    try:
        made.transport.open()
        assert outcome(made.deliver([made.put("warm", b"up")])) == {"Confirmed": 1}
        assert len(made.receivers()) == 1
        yield made
    finally:
        made.transport.close(finished=True)
    assert not [name for name in os.listdir(made.target) if name.startswith(".")]


def outcome(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Return how many verdicts of each sort there are."""
    return Counter(v.fault.name if isinstance(v, Failed) else "Confirmed" for v in verdicts)


@contextlib.contextmanager
def suspended(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stop processes for the length of the block, as a disk that does not answer does."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def gone(processes: Sequence[psutil.Process]) -> bool:
    """Tell whether none of the processes runs any more."""
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


# -- a far end that is late -------------------------------------------------------------------


def test_what_a_late_receiver_still_holds_is_never_put_in_the_place_of_what_came_after(way: Way) -> None:
    """An attempt is given up while the far end is stuck; a newer version is delivered; then the far end wakes up."""
    late = way.receivers()
    units = [way.put(f"f{number}", b"version one") for number in range(20)]
    with suspended(late):
        guard = Watcher()
        guard.give_up()
        assert outcome(way.deliver(units, guard)) == {"ABANDONED": 20}
        newer = [way.put(f"f{number}", b"version two, the last one") for number in range(20)]
        assert outcome(way.deliver(newer)) == {"Confirmed": 20}
    wait_until(lambda: gone(late), 20, "the late receiver has ended")
    stale = [name for name in way.there() if (way.target / os.fsdecode(name)).read_bytes() == b"version one"]
    assert stale == [], "confirmed content was replaced by what was given up before"


def test_a_late_receiver_of_a_lost_connection_puts_nothing_in_place(way: Way) -> None:
    late = way.receivers()
    unit = way.put("f", b"version one")
    cut = threading.Timer(0.3, way.transport.abort)
    with suspended(late):
        cut.start()
        with contextlib.suppress(LinkError):
            assert outcome(way.deliver([unit])) == {"LINK": 1}
        assert outcome(way.deliver([way.put("f", b"version two")])) == {"Confirmed": 1}
    wait_until(lambda: gone(late), 20, "the late receiver has ended")
    assert (way.target / "f").read_bytes() == b"version two"


def test_what_was_taken_away_at_the_target_is_not_brought_back_by_a_late_receiver(way: Way) -> None:
    late = way.receivers()
    unit = way.put("d/f", b"content")
    with suspended(late):
        guard = Watcher()
        guard.give_up()
        assert outcome(way.deliver([unit], guard)) == {"ABANDONED": 1}
        assert outcome(way.deliver([unit])) == {"Confirmed": 1}
        (way.target / "d/f").unlink()
        (way.target / "d").rmdir()
    wait_until(lambda: gone(late), 20, "the late receiver has ended")
    assert way.there() == {b"warm"}


def test_a_batch_that_was_given_up_unheard_is_looked_for_leftovers(way: Way) -> None:
    """The far end is stuck in the middle of a file, and dies later: what it leaves must be removed."""
    late = way.receivers()
    with suspended(late):
        guard = Watcher()
        guard.give_up()
        assert outcome(way.deliver([way.put("f", b"content")], guard)) == {"ABANDONED": 1}
        # What the receiver was writing just then.
        (way.target / ".f.0a1b2c").write_bytes(b"cont")
        late[0].kill()
    way.deliver([way.put("g", b"x")])
    assert not (way.target / ".f.0a1b2c").exists()


# -- two lanes --------------------------------------------------------------------------------


def test_what_rsync_sends_after_the_receiver_declined_is_no_leftover_to_the_other_lane(way: Way) -> None:
    """Files with holes go by rsync in the very same batch; meanwhile the other lane cleans up and sends as well."""
    units = [way.put(f"plain{number}", b"x") for number in range(10)]
    for number in range(300):
        name = f"hole{number}"
        with open(way.source / name, "wb") as file:
            file.truncate(1 << 17)
        units.append(Unit(name=name.encode(), kind=Kind.FILE, identity=identity_of((way.source / name).lstat())))
    verdicts: list[Verdict] = []
    lane = threading.Thread(target=lambda: verdicts.extend(way.deliver(units)))
    lane.start()
    try:
        with suspended(wait_until(lambda: _in_the_middle(way), 20, "rsync is in the middle of a file", every=0.0001)):
            way.deliver([way.put("other", b"lane")])
    finally:
        lane.join(60)
    assert outcome(verdicts) == {"Confirmed": 310}


def _in_the_middle(way: Way) -> list[psutil.Process]:
    """Stop and return the far rsync if it has a half written file; let it go on and return nothing if not."""
    if not any(name.startswith(".hole") for name in os.listdir(way.target)):
        return []
    found = way.far(lambda words: words[0].endswith("rsync") and "--server" in words)
    for process in found:
        process.suspend()
    if any(name.startswith(".hole") for name in os.listdir(way.target)):
        return found
    for process in found:
        process.resume()
    return []


# -- a source that changes --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["renamed", "a link", "a file", "removed"])
def test_a_directory_that_goes_at_the_source_harms_only_its_own_files(way: Way, how: str) -> None:
    """The files in it are held open, so they can be read; the directory cannot be looked at any more."""
    inside = [way.put(f"d/e/f{number}", b"x") for number in range(3)]
    others = [way.put(f"other{number}", b"y") for number in range(20)]
    handles = {unit.name: os.open(way.source / os.fsdecode(unit.name), os.O_RDONLY) for unit in inside}
    try:
        (way.source / "d").rename(way.source / "moved")
        if how == "a link":
            (way.source / "d").symlink_to("moved")
        elif how == "a file":
            (way.source / "d").write_bytes(b"in its place")
        elif how == "removed":
            for number in range(3):
                (way.source / f"moved/e/f{number}").unlink()
        verdicts = way.deliver([others[0], *inside, *others[1:]], Watcher(handles))
    finally:
        for handle in handles.values():
            os.close(handle)
    by_name = {v.unit.name: v for v in verdicts}
    assert all(isinstance(by_name[unit.name], Confirmed) for unit in others)
    bad = [by_name[unit.name] for unit in inside]
    assert all(isinstance(v, Confirmed) or v.fault in (FaultClass.VANISHED, FaultClass.CHANGED) for v in bad), bad
    assert len(way.receivers()) <= 1
    assert outcome(way.deliver([way.put("next", b"z")])) == {"Confirmed": 1}


# -- a far end that allows little -------------------------------------------------------------


@pytest.mark.parametrize("express", [False, True])
@pytest.mark.parametrize("sessions", [2, 3, 4])
def test_few_sessions_of_one_connection_are_enough(scratch: Path, sessions: int, express: bool) -> None:
    """A control shell and one rsync are all that is needed, as it was before there was a receiver."""
    place = scratch / "sshd"
    with PrivateSshd(place, options=[f"MaxSessions {sessions}"]) as server:
        way = Way(scratch, server, express=express)
        try:
            way.transport.open()
            for number in range(3):
                small, large = way.put(f"small{number}", b"x"), way.put(f"large{number}", os.urandom((1 << 17) + 1))
                assert outcome(way.deliver([small])) == {"Confirmed": 1}
                assert outcome(way.deliver([large])) == {"Confirmed": 1}
        finally:
            way.transport.close(finished=True)
