"""What rsync says, understood: lines that were seen in the wild, and any name by a real rsync."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mistamover.transport.rsync_output import (
    OUT_FORMAT,
    Line,
    content_matches,
    parse_errors,
    parse_line,
    parse_progress,
)

HASH = b"0123456789abcdef0123456789abcdef"
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"<f+++++++++|" + HASH + b"|12|a b", Line("<", "f", "+++++++++", HASH.decode(), 12, b"a b")),
        (b"<f..t......|" + HASH + b"|0|d/x", Line("<", "f", "..t......", HASH.decode(), 0, b"d/x")),
        (b".f         |" + HASH + b"|5|same", Line(".", "f", "         ", HASH.decode(), 5, b"same")),
        (b"cd+++++++++|                                |4096|d/", Line("c", "d", "+++++++++", "", 4096, b"d")),
        (b"cL+++++++++|                                |3|link", Line("c", "L", "+++++++++", "", 3, b"link")),
        (b"hf+++++++++|                                |3|b", Line("h", "f", "+++++++++", "", 3, b"b")),
        (b"<f+++++++++|" + HASH + b"|1|a|b|c", Line("<", "f", "+++++++++", HASH.decode(), 1, b"a|b|c")),
        (b"<f+++++++++|" + HASH + b"|1|a\\#012b\xff", Line("<", "f", "+++++++++", HASH.decode(), 1, b"a\nb\xff")),
        (b"<f+++++++++|" + HASH + b"|1|\\#134#012", Line("<", "f", "+++++++++", HASH.decode(), 1, b"\\#012")),
        (b"<f+++++++++|" + HASH + b"|1| ", Line("<", "f", "+++++++++", HASH.decode(), 1, b" ")),
    ],
)
def test_lines(raw: bytes, line: Line) -> None:
    assert parse_line(raw) == line


@pytest.mark.parametrize(
    "raw",
    [b"", b"sending incremental file list", b"*deleting   x", b"<f+++++++++|x|1|name", b"<f+++++++++|" + HASH + b"|1|"],
)
def test_other_lines(raw: bytes) -> None:
    assert parse_line(raw) is None


@pytest.mark.parametrize(
    ("raw", "matches"),
    [
        (b".f         |" + HASH + b"|5|x", True),
        (b".f..t......|" + HASH + b"|5|x", True),
        (b"<fc........|" + HASH + b"|5|x", False),
        (b"<f.s.......|" + HASH + b"|5|x", False),
        (b"<f+++++++++|" + HASH + b"|5|x", False),
        (b".f         |                                |5|x", False),
        (b".d         |                                |5|x/", True),
        (b"cL+++++++++|                                |5|x", False),
    ],
)
def test_second_look(raw: bytes, matches: bool) -> None:
    line = parse_line(raw)
    assert line is not None and content_matches(line) is matches


def test_complaints() -> None:
    said = parse_errors(
        b'rsync: [sender] send_files failed to open "/src/a/no": Permission denied (13)\n'
        b'file has vanished: "/src/gone\\#012"\n'
        b'rsync: [receiver] mkstemp "/dst/.big.aB3xY9" failed: No space left on device (28)\n'
        b'rsync: [sender] read errors mapping "/src/x (1) y": Input/output error (5)\n'
        b"rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338)\n"
    )
    no, gone, big, odd = (said.about(name) for name in (b"no", b"gone\n", b"big", b"x (1) y"))
    assert no and (no.role, no.errno) == ("sender", 13)
    assert gone and gone.role == "sender"
    assert big and (big.role, big.errno) == ("receiver", 28)
    assert odd and odd.errno == 5
    assert said.errnos() == {28}
    assert "Permission denied" in said.summary()
    assert said.about(b"other") is None


def test_only_the_closing_line_is_said() -> None:
    assert parse_errors(b"rsync error: some files could not be transferred (code 23)\n").summary()
    assert parse_errors(b"").summary() == ""


@given(st.binary(max_size=300))
def test_rubbish_is_survived(raw: bytes) -> None:
    parse_line(raw)
    parse_line(b"<f+++++++++|" + HASH + b"|1|" + raw)
    parse_errors(raw).summary()


PARTS = st.binary(min_size=1, max_size=60).filter(
    lambda name: b"\0" not in name and b"/" not in name and name not in (b".", b"..")
)
NASTY = st.lists(
    st.sampled_from([b"\\#012", b"\\#134", b"\\", b"#", b"|", b"\n", b"\r", b" ", b"-", b"\xff", b"\\#0", b"5"]),
    min_size=1,
    max_size=12,
).map(b"".join)


@needs_rsync
@settings(max_examples=25, deadline=None)
@example([b"#", b";"])
@given(st.lists(st.one_of(PARTS, NASTY), min_size=1, max_size=20, unique=True))
def test_any_name_comes_back_from_a_real_rsync(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as top:
        source, target = os.fsencode(Path(top, "s")), os.fsencode(Path(top, "t"))
        os.mkdir(source)
        os.mkdir(target)
        for name in names:
            with open(source + b"/" + name, "wb") as file:
                file.write(b"x")
        argv = ["rsync", "-lptgoHS", "-8", "-s", "-ii", "--from0", "--files-from=-", "--outbuf=L", OUT_FORMAT]
        # rsync takes a line that begins with # or ; for a comment, and any leading slash off a name.
        argv += ["--checksum-choice=xxh128", "--ignore-times", "--", source + b"/", target + b"/"]
        listed = b"".join(b"/" + name + b"\0" for name in names)
        english = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(argv, input=listed, capture_output=True, check=False, env=english)
        assert (done.returncode, done.stderr) == (0, b"")
        lines = [line for raw in done.stdout.split(b"\n") if (line := parse_line(raw)) is not None]
        assert {line.name for line in lines if line.kind == "f"} == set(names)
        assert set(os.listdir(target)) == set(names)


def test_the_last_progress_counts() -> None:
    chunk = b"\r         32,768   0%    0.00kB/s    0:00:00  \r    104,857,600  50%   95.37MB/s    0:00:01  "
    assert parse_progress(chunk) == 104_857_600
    assert parse_progress(b"<f+++++++++|00|1|name\n") is None
