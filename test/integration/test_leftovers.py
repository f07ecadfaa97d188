"""What a killed rsync leaves at the target is found again and removed; what is somebody else's stays."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import psutil

import laws
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.leftovers import Leftovers, temporary_prefixes
from support import Stream, contents, wait_until

SIZE = 2 * 1024 * 1024
NAMES = ("plain", "with blank", "new\nline", "-dash $HOME;*", "x" * 250)


def kill_receivers(target: Path) -> int:
    """Kill with SIGKILL every rsync that writes below a target; return how many there were."""
    killed = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and words[0].endswith("rsync") and "--server" in words and process.cwd().startswith(str(target)):
                process.kill()
                killed += 1
    return killed


def temporaries(target: Path) -> list[bytes]:
    return [name for name in os.listdir(os.fsencode(target)) if name.startswith(b".") and name != b".mistamover"]


def test_a_killed_receiver_leaves_nothing(sshd: PrivateSshd, scratch: Path) -> None:
    """Each name in a stream of its own."""
    site, one = laws.make(scratch, sshd, everywhere=laws.slow({}, SIZE, 3))
    quick = {"settle_time": 0.3, "rescan_interval": 3}
    streams = [one, *(site.add(f"s{number}", data_stream=dict(quick)) for number in range(1, len(NAMES)))]
    foreign = {stream.name: f".{name[:200]}.backup-of-mine" for stream, name in zip(streams, NAMES, strict=True)}
    contents_of = {name: os.urandom(SIZE) for name in NAMES}
    for stream in streams:
        (stream.target / foreign[stream.name]).write_bytes(b"not ours")

    def ours(stream: Stream) -> set[bytes]:
        return {entry for entry in temporaries(stream.target) if entry != os.fsencode(foreign[stream.name])}

    with site.running():
        for stream, name in zip(streams, NAMES, strict=True):
            laws.put(stream.source / name, contents_of[name])
        left = {}
        for stream in streams:
            wait_until(lambda stream=stream: ours(stream), 15, "it is half sent", every=0.005)
            left[stream.name] = ours(stream)
            assert kill_receivers(stream.target)
        for stream in streams:
            wait_until(lambda stream=stream: not left[stream.name] & ours(stream), 20, "what was left is removed")
        for stream, name in zip(streams, NAMES, strict=True):
            laws.arrived(stream, {os.fsencode(name): laws.digest(contents_of[name])}, timeout=25)
    for stream, name in zip(streams, NAMES, strict=True):
        assert temporaries(stream.target) == [os.fsencode(foreign[stream.name])]
        assert set(contents(stream.target)) == {os.fsencode(name), os.fsencode(foreign[stream.name])}


def test_a_successor_finds_what_a_killed_process_was_sending(scratch: Path) -> None:
    killed = Leftovers(scratch)
    killed.begin([b"a", b"d/new\nline"])
    successor = Leftovers(scratch)
    ((batch, names),) = successor.found()
    assert names == [b"a", b"d/new\nline"]
    assert successor.begin([b"b"]) != batch
    assert [found for found, _ in successor.found()] == [batch], "its own batch under way is none"
    successor.end(batch)
    assert successor.found() == []


def test_a_batch_that_begins_or_ends_is_never_taken_for_a_leftover(scratch: Path) -> None:
    """One lane begins and ends batches while another looks for leftovers."""
    leftovers = Leftovers(scratch)
    looking = threading.Event()
    wrong: list[object] = []

    def look() -> None:
        while not looking.is_set():
            try:
                wrong.extend(leftovers.found())
            except OSError as error:
                wrong.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(500):
            leftovers.end(leftovers.begin([b"a"]))
    finally:
        looking.set()
        thread.join()
    assert wrong == []


def test_prefixes_allow_for_names_that_rsync_cuts() -> None:
    whole, cut = temporary_prefixes([b"d/name", b"d/" + b"x" * 250])
    assert whole == [b"d/.name"]
    assert cut == [b"d/." + b"x" * 230]
