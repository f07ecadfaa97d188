"""The directory of a cart: what comes into it stays in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mistamover.errors import JobRefused
from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.transfer.landing import Landing

JOB = "0" * 32


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "new" / "carts")


@pytest.fixture
def landing(volume: Volume) -> Iterator[Landing]:
    with closing(Landing(volume, JOB)) as made:
        yield made


def put(landing: Landing, path: str, content: bytes = b"x") -> None:
    landing.drop("t")
    with landing.write("t") as file:
        file.write(content)
    landing.place("t", path)


def test_files_get_their_paths_when_they_are_whole(volume: Volume, landing: Landing) -> None:
    put(landing, "a/b/c", b"1")
    put(landing, "a/b/c", b"22")
    put(landing, "odd\n\udcff", b"3")
    assert volume.file(JOB, "a/b/c").read_bytes() == b"22"
    assert (landing.has("a/b/c", 2), landing.has("a/b/c", 1), landing.has("a/b", 0), landing.has("n/o", 0)) == (
        True, False, False, False,
    )  # fmt: skip
    landing.flush(["a/b/c", "odd\n\udcff"])
    landing.flush(["a/b/c"] * 20)
    assert volume.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//x", ".", "", "a/.", "x\0"])
def test_no_path_leads_out(volume: Volume, landing: Landing, path: str) -> None:
    with pytest.raises(JobRefused):
        put(landing, path)
    assert [entry.name for entry in volume.path.rglob("*") if entry.is_file()] == ["t"]


@pytest.mark.parametrize("where", ["d", "a/d"])
def test_no_link_is_followed(volume: Volume, landing: Landing, tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (volume.files(JOB) / "a").mkdir()
    os.symlink(outside, volume.files(JOB) / where)
    (outside / "x").write_bytes(b"old")
    with pytest.raises(OSError, match=r"Not a directory|Too many"):
        put(landing, f"{where}/x")
    with pytest.raises(OSError, match=r"Not a directory|Too many"):
        landing.has(f"{where}/x", 3)
    assert (outside / "x").read_bytes() == b"old"
    # A link in the place of the file itself is replaced.
    os.symlink(outside / "x", volume.files(JOB) / "l")
    assert not landing.has("l", 3)
    put(landing, "l", b"new")
    assert (outside / "x").read_bytes() == b"old"


@pytest.mark.parametrize("part", ["", "files", "partial"])
def test_a_directory_of_ours_is_no_link(volume: Volume, tmp_path: Path, part: str) -> None:
    (tmp_path / "outside").mkdir()
    (volume.cart(JOB) / part).parent.mkdir(parents=True)
    os.symlink(tmp_path / "outside", volume.cart(JOB) / part)
    with pytest.raises(OSError, match=r"Not a directory|Too many"):
        Landing(volume, JOB)


def test_what_did_not_become_whole_goes(volume: Volume) -> None:
    with closing(Landing(volume, JOB)) as landing:
        put(landing, "a")
        landing.write("half").close()
    with closing(Landing(volume, JOB)) as landing:
        assert not list(volume.partial(JOB).iterdir())
        assert landing.has("a", 1)
        landing.write("b").close()
        landing.place_bundle("b", "bundle.tar")
        assert (landing.bundle_size("bundle.tar"), landing.bundle_size("bundle.zip")) == (0, None)
        landing.tidy(files=True)
    assert [entry.name for entry in volume.cart(JOB).iterdir()] == ["bundle.tar"]
