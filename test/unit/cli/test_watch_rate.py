"""`mistamover watch-rate`: a directory that really grows, what counts, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mistamover.cli.main import main
from mistamover.cli.watch_rate import Below, Look, rate, used_on
from support import TOP

PIECE = 256 * 1024


def test_the_rate_of_a_growing_directory_is_told(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()
    written = 0

    def grow() -> None:
        nonlocal written
        with (scratch / "growing").open("wb", buffering=0) as file:
            while not done.wait(0.01):
                written += file.write(os.urandom(PIECE))
                os.fsync(file.fileno())

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        assert main(["watch-rate", os.fspath(scratch), "-i", "0.3", "--count", "3", "--json"]) == 0
    finally:
        done.set()
        writer.join()
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(looks) == 3 and all(look["name"] == os.fspath(scratch) for look in looks)
    assert [look["bytes"] for look in looks] == sorted({look["bytes"] for look in looks})
    assert all(look["bytes_per_second"] > 0 for look in looks)
    grown = looks[-1]["average_bytes_per_second"] * looks[-1]["seconds"]
    assert PIECE <= grown <= written * 1.2 + 2 * PIECE


def test_the_rates_are_by_the_clock() -> None:
    looks = [Look(when=10.0, used=1000), Look(when=12.0, used=5000), Look(when=14.0, used=3000)]
    assert (rate(looks[0], looks[1]), rate(looks[1], looks[2]), rate(looks[0], looks[2])) == (2000, -1000, 500)


def test_a_file_with_two_names_counts_once_and_links_are_not_followed(scratch: Path) -> None:
    other = scratch.parent / "other"
    other.mkdir()
    (other / "large").write_bytes(os.urandom(PIECE))
    (scratch / "one").write_bytes(os.urandom(PIECE))
    (scratch / "deep/er").mkdir(parents=True)
    before = Below().used(os.fsencode(scratch))
    assert before >= PIECE
    os.link(scratch / "one", scratch / "deep/er/two")
    (scratch / "link").symlink_to(other)
    assert before <= Below().used(os.fsencode(scratch)) < before + PIECE
    assert Below().used(os.fsencode(scratch / "link")) >= PIECE
    assert used_on(os.fsencode(scratch)) >= before


def test_ctrl_c_is_the_usual_end(scratch: Path) -> None:
    argv = [sys.executable, "-u", "-m", "mistamover", "watch-rate", "-f", "-i", "0.1", os.fspath(scratch)]
    environment = {**os.environ, "PYTHONPATH": str(TOP / "lib")}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and b"on average" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, b"")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("nowhere",), 1, "nowhere cannot be looked at: No such file or directory"),
        ((".", "-i", "soon"), 2, '--interval "soon" is not a time'),
        ((".", "-i", "0"), 2, "is out of range"),
        ((".", "--count", "0"), 2, "--count 0 is out of range"),
    ],
)
def test_what_cannot_be_watched_is_told(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...], status: int, told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(scratch)
    assert main(["watch-rate", *words]) == status
    assert told in capsys.readouterr().err
