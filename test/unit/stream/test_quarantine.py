"""Quarantine: out of the way, whole, with the reason beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.stream.quarantine import move_away, note_name
from support import tree


@pytest.fixture(params=["same", "other"])
def away(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Path]:
    """A quarantine directory that does not exist yet, on the filesystem of the source or on another one."""
    if request.param == "same":
        yield scratch / "away" / "q"
        return
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == scratch.stat().st_dev:
        pytest.skip("no second filesystem")
    with tempfile.TemporaryDirectory(dir=shared) as other:
        yield Path(other) / "q"


@pytest.fixture
def root(scratch: Path) -> Path:
    (scratch / "root").mkdir()
    return scratch / "root"


def move(root: Path, name: bytes, away: Path, reason: str = "no luck") -> Path:
    return Path(os.fsdecode(move_away(os.fsencode(root), name, away, reason, 0.0)))


def note_of(path: Path) -> str:
    return Path(os.fsdecode(note_name(os.fsencode(path)))).read_text()


def test_file_goes_with_its_content_times_and_reason(root: Path, away: Path) -> None:
    file = root / "d" / "f"
    file.parent.mkdir()
    file.write_bytes(b"data")
    file.chmod(0o640)
    os.utime(file, ns=(10**18, 10**18 + 7))
    moved = move(root, b"d/f", away)
    assert (moved, moved.read_bytes()) == (away / "d" / "f", b"data")
    assert (moved.stat().st_mode & 0o777, moved.stat().st_mtime_ns) == (0o640, 10**18 + 7)
    assert not file.exists()
    note = note_of(moved)
    assert "reason: no luck" in note and str(file) in note


def test_tree_goes_whole(root: Path, away: Path) -> None:
    (root / "run" / "empty").mkdir(parents=True)
    (root / "run" / "f").write_bytes(b"data")
    (root / "run" / "l").symlink_to("/nowhere")
    before = {name: entry.content for name, entry in tree(root / "run").items()}
    moved = move(root, b"run", away)
    assert {name: entry.content for name, entry in tree(moved).items()} == before
    assert not (root / "run").exists()


def test_link_goes_as_a_link(root: Path, away: Path) -> None:
    (root / "d").mkdir()
    (root / "l").symlink_to("d")
    assert move(root, b"l", away).readlink() == Path("d")
    assert (root / "d").is_dir() and not (root / "l").is_symlink()


def test_nothing_is_overwritten(root: Path, away: Path) -> None:
    places = []
    for content in (b"1", b"2", b"3"):
        (root / "f").write_bytes(content)
        places.append(move(root, b"f", away))
    assert [place.read_bytes() for place in places] == [b"1", b"2", b"3"]
    assert len(set(places)) == 3


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"x" * 255),
        pytest.param(b"d" * 255 + b"/" + b"y" * 240),
        b"x" * 200,
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
    ],
)
def test_any_name(root: Path, away: Path, name: bytes) -> None:
    whole = os.fsencode(root) + b"/" + name
    for _ in range(2):
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "wb") as file:
            file.write(b"data")
        moved = move(root, name, away)
        assert moved.read_bytes() == b"data"
        assert len(note_of(moved).splitlines()) == 6


def test_notes_of_long_names_do_not_overwrite_each_other(root: Path, away: Path) -> None:
    places = []
    for end in (b"a", b"b"):
        name = b"x" * 250 + end
        with open(os.fsencode(root) + b"/" + name, "wb"):
            pass
        places.append(move(root, name, away, f"reason {end.decode()}"))
    assert "reason a" in note_of(places[0])
    assert "reason b" in note_of(places[1])


def test_a_unit_that_is_called_like_a_note_survives(root: Path, away: Path) -> None:
    (root / "f.reason").write_bytes(b"data of a scientist")
    kept = move(root, b"f.reason", away)
    (root / "f").write_bytes(b"x")
    move(root, b"f", away)
    assert kept.read_bytes() == b"data of a scientist"


def test_what_cannot_be_moved_stays_without_a_note(root: Path, away: Path) -> None:
    with pytest.raises(OSError):
        move(root, b"none", away)
    assert [path for path in away.rglob("*") if path.is_file()] == []


def test_an_unusable_place_leaves_the_source(root: Path, scratch: Path) -> None:
    (root / "f").write_bytes(b"data")
    (scratch / "file").touch()
    with pytest.raises(OSError):
        move(root, b"f", scratch / "file" / "q")
    assert (root / "f").read_bytes() == b"data"
