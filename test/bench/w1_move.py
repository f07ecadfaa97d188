"""W1: 10,000 files of 4 KiB in 100 directories, moved by one stream, against one `rsync -a` of the same tree.

Both go through the same private sshd on the loopback, in turn, in one run.  What is printed
is the ratio of the medians: seconds differ from machine to machine and from hour to hour.

    python test/bench/w1_move.py [--rounds N] [--files N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "lib"), str(TOP / "test")]

from mistamover.testing.sshd import PrivateSshd  # noqa: E402 (the checkout's own, wherever this is called from)
from support import Site  # noqa: E402

SIZE = 4096
PER_DIRECTORY = 100


def main() -> int:
    """Run the rounds and print the ratio; return 1 when something was not delivered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each of both ways (default 5)")
    parser.add_argument("--files", type=int, default=10_000, help="files in the tree (default 10000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    rsync: list[float] = []
    remove: list[float] = []
    ours: list[float] = []
    memory: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="mistamover-bench-") as scratch,
        PrivateSshd(Path(scratch) / "sshd") as sshd,
    ):
        for number in range(arguments.rounds):
            place = Path(scratch) / str(number)
            rsync.append(time_rsync(place / "rsync", sshd, arguments.files))
            remove.append(time_rsync(place / "rsync-move", sshd, arguments.files, "--remove-source-files"))
            seconds, peak = time_stream(place / "stream", sshd, arguments.files)
            ours.append(seconds)
            memory.append(peak)
            shutil.rmtree(place)
    median = statistics.median(ours)
    result = {
        "files": arguments.files,
        "rounds": arguments.rounds,
        "rsync_s": rsync,
        "rsync_remove_s": remove,
        "stream_s": ours,
        "ratio_to_rsync": round(median / statistics.median(rsync), 2),
        "ratio_to_rsync_remove_source_files": round(median / statistics.median(remove), 2),
        "stream_peak_mib": round(max(memory), 1),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{arguments.files} files of 4 KiB, {arguments.rounds} rounds, medians (least - most) in seconds")
        for label, times in (
            ("rsync -a", rsync),
            ("rsync -a --remove-source-files", remove),
            ("one stream, move, proven and flushed", ours),
        ):
            print(f"  {label:<38} {statistics.median(times):6.2f}   ({min(times):.2f} - {max(times):.2f})")
        print(f"ratio to rsync -a:                        {result['ratio_to_rsync']}")
        print(f"ratio to rsync -a --remove-source-files:  {result['ratio_to_rsync_remove_source_files']}")
        print(f"peak memory of the stream's process:      {result['stream_peak_mib']} MiB")
    return 0


def fill(directory: Path, files: int) -> None:
    """Given a directory, put the tree into it, and wait until it is on disk."""
    block = os.urandom(SIZE * PER_DIRECTORY)
    for number in range(files):
        below = directory / f"d{number // PER_DIRECTORY:05d}"
        index = number % PER_DIRECTORY
        if not index:
            below.mkdir(parents=True)
        (below / f"f{index:03d}").write_bytes(block[index * SIZE : (index + 1) * SIZE])
    os.sync()


def time_rsync(place: Path, sshd: PrivateSshd, files: int, *options: str) -> float:
    """Given a place and the server, return the seconds that one rsync over a new connection takes for the tree."""
    source, target = place / "source", place / "target"
    fill(source, files)
    target.mkdir()
    started = time.monotonic()
    subprocess.run(
        [
            "rsync",
            "-a",
            *options,
            "-e",
            f"ssh -F {sshd.ssh_config}",
            f"{source}/",
            f"{sshd.user}@{sshd.host}:{target}/",
        ],
        check=True,
    )
    return time.monotonic() - started


def time_stream(place: Path, sshd: PrivateSshd, files: int) -> tuple[float, float]:
    """Given a place and the server, return the seconds of a one-off run of a stream, and its peak memory in MiB.

    The time is that of the whole command: start, configuration, connection, scan, delivery, proof, flush,
    ledger, removal, end.
    """
    place.mkdir(parents=True)
    site = Site(place, sshd, logging={"log_level": "INFO"})
    stream = site.add("bench", data_stream={"empty_directory_age": 0})
    fill(stream.source, files)
    started = time.monotonic()
    process = subprocess.Popen(site.command("--one-off", str(site.global_ini)), env=site.environment(), cwd=place)
    peak = Peak(process.pid)
    status = process.wait(600)
    seconds = time.monotonic() - started
    delivered = sum(len(names) for _, _, names in os.walk(stream.target))
    left = sum(len(names) for _, _, names in os.walk(stream.source))
    if status or delivered != files or left:
        raise SystemExit(f"not delivered: status {status}, {delivered} of {files} at the target, {left} at the source")
    return seconds, peak.stop()


class Peak:
    """The largest resident size of a process's children of the same program, looked at 50 times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        """Return the peak in MiB."""
        self._end.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            try:
                streams = [p for p in psutil.Process(self._pid).children() if "stream" in " ".join(p.cmdline())]
                sizes = [p.memory_info().rss / 2**20 for p in streams]
            except psutil.Error:
                continue
            self._peak = max([self._peak, *sizes])


if __name__ == "__main__":
    sys.exit(main())
