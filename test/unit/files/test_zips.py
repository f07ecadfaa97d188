"""Zips: what goes in comes out again, by zipfile and by unzip, however odd it is, and always as the same bytes."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mistamover.files.names import zip_names
from mistamover.files.zips import ZipWriter
from support import Entry, tree

ODD_NAMES = [
    b"plain", b"with blank", b"-dash", b"new\nline", "\u00fcml\u00e4ut \u2603".encode(), b"\xff\xfe latin \xe4",
    b"#hash", b"back\\slash", b"'\"$HOME;*", b"caf\xc3", b"L" * 255,
]  # fmt: skip
LONG_AGO = 1_000_000_000

needs_unzip = pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")


def zipped(top: Path) -> bytes:
    """Zip a directory as it is, sorted by name; return the zip."""
    root, file = os.fsencode(top.parent), io.BytesIO()
    name = os.fsencode(top.name)
    with ZipWriter(file) as writer:
        writer.directory(name, top.lstat())
        for below in sorted(tree(top)):
            whole = root + b"/" + name + b"/" + below
            status = os.lstat(whole)
            if stat.S_ISLNK(status.st_mode):
                writer.link(name + b"/" + below, status, os.readlink(whole))
            elif stat.S_ISDIR(status.st_mode):
                writer.directory(name + b"/" + below, status)
            else:
                writer.file(name + b"/" + below, status, pieces(whole))
    return file.getvalue()


def as_of(seconds: int, *, size: int = 0) -> os.stat_result:
    """Return the status of a file with that time."""
    return os.stat_result((0o100644, 1, 1, 1, 0, 0, size, 0, seconds, 0), {"st_mtime_ns": seconds * 10**9})


def pieces(path: bytes) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(1000):
            yield piece


def plant(top: Path) -> dict[bytes, Entry]:
    """Make a directory with a bit of everything, with times in whole seconds; return what it holds."""
    for number, name in enumerate(ODD_NAMES):
        path = os.fsencode(top) + b"/sub/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name * 500)
        os.chmod(path, 0o600 + number)
    (top / "none").touch()
    (top / "empty").mkdir()
    (top / "empty").chmod(0o750)
    (top / "dangling").symlink_to("no/where")
    (top / "to a directory").symlink_to("sub")
    for number, (directory, directories, files) in enumerate(os.walk(os.fsencode(top), topdown=False)):
        for name in (*files, *directories):
            moment = (LONG_AGO + number) * 10**9
            os.utime(os.path.join(directory, name), ns=(moment, moment), follow_symlinks=False)
    return tree(top)


def read(content: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Read a zip by zipfile: mode and content of each entry, by its name as bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {
            info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"): (
                info.external_attr >> 16,
                archive.read(info),
            )
            for info in archive.infolist()
        }


def test_zipfile_reads_it(scratch: Path) -> None:
    before = plant(scratch / "run")
    found = read(zipped(scratch / "run"))
    assert set(found) == {
        b"run/",
        *(b"run/" + name + (b"/" if entry.kind == "directory" else b"") for name, entry in before.items()),
    }
    assert found[b"run/sub/new\nline"] == (stat.S_IFREG | before[b"sub/new\nline"].mode, b"new\nline" * 500)
    assert found[b"run/dangling"] == (stat.S_IFLNK | 0o777, b"no/where")
    assert found[b"run/empty/"] == (stat.S_IFDIR | 0o750, b"")


@needs_unzip
def test_unzip_restores_it(scratch: Path) -> None:
    """Kinds, content, link targets, modes and times, under any name."""
    before = plant(scratch / "run")
    (scratch / "run.zip").write_bytes(zipped(scratch / "run"))
    # Without -^ it leaves control characters and the byte 255 out of names.
    words = ["unzip", "-q", "-^", "-d", scratch / "out", scratch / "run.zip"]
    done = subprocess.run(words, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    after = tree(scratch / "out/run")
    links = {name for name, entry in before.items() if entry.kind == "link"}
    assert set(after) == set(before)
    for name in before:
        # unzip does not set the time of a link.
        expected = before[name]._replace(mtime_ns=after[name].mtime_ns) if name in links else before[name]
        assert after[name] == expected, name


def test_the_same_content_makes_the_same_bytes(scratch: Path) -> None:
    plant(scratch / "run")
    first = zipped(scratch / "run")
    (scratch / "run").rename(scratch / "kept")
    shutil.copytree(scratch / "kept", scratch / "run", symlinks=True)
    assert zipped(scratch / "run") == first
    os.utime(scratch / "run/none", (5, 5))
    assert zipped(scratch / "run") != first


@pytest.mark.parametrize("seconds", [-(10**10), -1, 0, 315532799, 4354819199, 10**10, 10**12])
def test_times_beyond_what_a_zip_can_hold(scratch: Path, seconds: int) -> None:
    status = as_of(seconds, size=3)
    file = io.BytesIO()
    with ZipWriter(file) as writer:
        writer.file(b"f", status, [b"abc"])
    with zipfile.ZipFile(file) as archive:
        [info] = archive.infolist()
        assert archive.read("f") == b"abc"
        assert (1980, 1, 1) <= info.date_time[:3] <= (2107, 12, 31)
        assert len(info.extra) == (9 if -(1 << 31) <= seconds < 1 << 31 else 0)


@hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=255).filter(lambda n: not {0, 47} & {*n}), unique=True, max_size=4))
def test_any_name_comes_back(names: list[bytes]) -> None:
    file = io.BytesIO()
    status = as_of(0)
    with ZipWriter(file) as writer:
        for name in names:
            writer.file(name, status, [])
    assert sorted(read(file.getvalue())) == sorted(names)


@pytest.mark.parametrize(
    ("content", "stored"), [(os.urandom(300_000), True), (b"text" * 75_000, False)], ids=["random", "text"]
)
def test_what_does_not_get_smaller_is_stored(content: bytes, stored: bool) -> None:
    file = io.BytesIO()
    with ZipWriter(file) as writer:
        writer.file(b"f", as_of(1, size=len(content)), [content[:100_000], content[100_000:]])
    with zipfile.ZipFile(file) as archive:
        [info] = archive.infolist()
        assert (info.compress_type == zipfile.ZIP_STORED) is stored
        assert archive.read("f") == content


def test_more_entries_than_the_old_format_counts(scratch: Path) -> None:
    number = 65_536 + 100
    status = scratch.lstat()
    with (scratch / "many.zip").open("wb") as file, ZipWriter(file) as writer:
        for each in range(number):
            writer.directory(b"%d" % each, status)
    with zipfile.ZipFile(scratch / "many.zip") as archive:
        assert len(archive.namelist()) == number
    if shutil.which("unzip"):
        listed = subprocess.run(["unzip", "-Z1", scratch / "many.zip"], check=True, capture_output=True).stdout
        assert listed.count(b"\n") == number


@pytest.mark.slow
@pytest.mark.skipif("MISTAMOVER_CAMPAIGN" not in os.environ, reason="takes most of a minute: set MISTAMOVER_CAMPAIGN=1")
def test_a_file_of_more_than_4_gib(scratch: Path) -> None:
    size = (4 << 30) + 100
    with (scratch / "big").open("wb") as file:
        file.truncate(size - 3)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    with (scratch / "big.zip").open("wb") as file, ZipWriter(file) as writer, (scratch / "big").open("rb") as big:
        writer.file(b"big", (scratch / "big").stat(), iter(lambda: big.read(1 << 20), b""))
        writer.file(b"after", (scratch / "big").stat(), [b"after"])
    with zipfile.ZipFile(scratch / "big.zip") as archive:
        assert [info.file_size for info in archive.infolist()] == [size, 5]
        assert archive.read("after") == b"after"
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tq", scratch / "big.zip"], check=True, capture_output=True, timeout=110)


def test_a_failure_within_leaves_nothing_open(scratch: Path) -> None:
    """What fails is told as it is; the half zip can be thrown away."""

    def fails() -> Iterator[bytes]:
        yield b"some"
        raise KeyError("the reason")

    with (
        (scratch / "half.zip").open("wb") as file,
        pytest.raises(KeyError, match="the reason"),
        ZipWriter(file) as writer,
    ):
        writer.file(b"f", scratch.lstat(), fails())


def test_names_of_zips() -> None:
    assert list(zip_names(b"run", numbered=False)) == [b"run.zip"]
    assert list(zip_names(b"run", numbered=True))[:3] == [b"run.zip", b"run.1.zip", b"run.2.zip"]
    assert list(zip_names(b"x" * 251, numbered=True)) == [b"x" * 251 + b".zip"]
    assert not list(zip_names(b"x" * 252, numbered=True))
