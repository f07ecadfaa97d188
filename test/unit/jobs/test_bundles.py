"""What bundles are made of: the same bytes from wherever one begins, and what tar, unzip and zstd make of them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mistamover.errors import BundleBroken, JobRefused
from mistamover.jobs.cart_model import BundleForm, BundleFormat
from mistamover.jobs.carts import composing
from mistamover.jobs.carts.composing import pieces
from mistamover.jobs.carts.members import Member
from mistamover.jobs.carts.tar import VirtualTar, header_of

TIME = 1_500_000_000
ODD_NAMES = [
    b"top/plain", b"top/with blank", b"top/-dash", b"top/new\nline", "top/\u00fcml\u00e4ut \u2603".encode(),
    b"top/\xff\xfe latin \xe4", b"top/back\\slash", b"top/" + b"L" * 96, b"top/" + b"M" * 97, b"top/" + b"N" * 255,
    b"top/" + b"/".join([b"d" * 200] * 5),
]  # fmt: skip


def members_in(directory: Path, contents: Sequence[tuple[bytes, bytes]], *, every_other: bool = True) -> list[Member]:
    """Given names and contents, make members of them; every other one has its content in a file."""
    made = []
    for number, (name, content) in enumerate(contents):
        said = {"name": name, "size": len(content), "mtime": TIME + number}
        if every_other and number % 2:
            made.append(Member(**said, content=content))
            continue
        file = directory / f"file{number}"
        file.write_bytes(content)
        made.append(Member(**said, path=os.fsencode(file)))
    return made


def by_tarfile(contents: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the tar that Python's own writer makes of the same."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for number, (name, content) in enumerate(contents):
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size, info.mtime = len(content), TIME + number
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


names = st.binary(min_size=1, max_size=130).filter(lambda name: b"\0" not in name)
contents = st.lists(st.tuples(names, st.one_of(st.binary(max_size=1_600), st.just(b"\0" * 512))), max_size=6)


@given(contents=contents, data=st.data(), piece=st.integers(1, 3_000))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_part_of_a_virtual_tar_is_that_part_of_the_tar_that_tarfile_writes(
    tmp_path: Path, contents: list[tuple[bytes, bytes]], data: st.DataObject, piece: int
) -> None:
    whole = by_tarfile(contents)
    tar = VirtualTar(members_in(tmp_path, contents))
    assert tar.size == len(whole)
    assert b"".join(tar.pieces()) == whole
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole) + 10))
    parts = list(tar.pieces(begin, end, piece=piece))
    assert b"".join(parts) == whole[begin:end]
    assert all(len(part) == piece for part in parts[:-1])


def test_tar_takes_a_bundle_out_with_all_names_times_and_bytes(tmp_path: Path) -> None:
    contents = [(name, b"%d" % number * 700) for number, name in enumerate(ODD_NAMES)]
    (tmp_path / "out").mkdir()
    packed = b"".join(VirtualTar(members_in(tmp_path, contents)).pieces())
    done = subprocess.run(
        ["tar", "xf", "-", "-C", tmp_path / "out"], input=packed, capture_output=True, timeout=30, check=True
    )
    # Names that are no UTF-8 are marked as such; GNU tar takes them as they are, and says that it does.
    assert all(b"hdrcharset" in line for line in done.stderr.splitlines())
    for number, (name, content) in enumerate(contents):
        file = os.fsencode(tmp_path / "out") + b"/" + name
        with open(file, "rb") as there:
            assert there.read() == content
        assert os.stat(file).st_mtime == TIME + number


@pytest.mark.parametrize(
    "said", [{"size": 9 << 30}, {"mtime": -5}, {"mtime": 1 << 40}, {"mode": 0o100755}, {"name": b"x" * 101}, {}]
)
def test_a_header_is_that_of_tarfile(said: dict[str, int]) -> None:
    member = Member(**{"name": b"top/name", "size": 5, "mtime": TIME, **said})  # type: ignore[arg-type]
    info = tarfile.TarInfo(os.fsdecode(member.name))
    info.size, info.mtime, info.mode = member.size, member.mtime, member.mode & 0o7777
    assert header_of(member) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def test_what_lies_beyond_eight_gibibytes_is_where_it_should_be(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 9 << 30)
    large_one = Member(name=b"top/large", size=9 << 30, mtime=TIME, path=os.fsencode(large))
    small = Member(name=b"top/small", size=5, mtime=TIME, content=b"small")
    tar = VirtualTar([large_one, small])
    tail = b"".join(tar.pieces(tar.size - 20_000))
    at = tail.index(header_of(small))
    assert tail[at + 512 : at + 517] == b"small"
    head = b"".join(tar.pieces(0, 10_000))
    with tarfile.open(fileobj=io.BytesIO(head)) as opened:
        first = opened.next()
    assert first is not None and (first.name, first.size) == ("top/large", 9 << 30)


@pytest.mark.parametrize("form", list(BundleFormat))
@pytest.mark.parametrize("change", ["gone", "shorter", "longer", "empty-no-more", "a-link"])
def test_a_file_that_is_not_as_was_said_breaks_the_bundle(tmp_path: Path, form: BundleFormat, change: str) -> None:
    members = members_in(
        tmp_path, [(b"top/a", b"a" * 5_000), (b"top/b", b"b" * 5_000), (b"top/c", b"")], every_other=False
    )
    second, third = tmp_path / "file1", tmp_path / "file2"
    match change:
        case "gone":
            second.unlink()
        case "shorter":
            os.truncate(second, 4_999)
        case "longer":
            os.truncate(second, 5_001)
        case "empty-no-more":
            third.write_bytes(b"x")
        case "a-link":
            second.unlink()
            second.symlink_to(tmp_path / "file0")
    with pytest.raises(BundleBroken):
        for _ in pieces(BundleForm(format=form), members):
            pass


def test_a_zip_that_is_made_on_the_fly_is_one_for_unzip_too(tmp_path: Path) -> None:
    contents = [(name, os.urandom(70_000) if number % 3 else b"text" * 30_000) for number, name in enumerate(ODD_NAMES)]
    parts = list(pieces(BundleForm(format=BundleFormat.ZIP), members_in(tmp_path, contents), piece=50_000))
    assert len(parts) > 5
    made = tmp_path / "made.zip"
    made.write_bytes(b"".join(parts))
    with zipfile.ZipFile(made) as opened:
        assert opened.testzip() is None
        assert [opened.read(entry) for entry in opened.infolist()] == [content for _, content in contents]
    assert made.stat().st_size < sum(len(content) for _, content in contents) * 0.8
    subprocess.run(["unzip", "-tqq", made], timeout=30, check=True, capture_output=True)


def test_a_compressed_tar_holds_the_same_tar(tmp_path: Path) -> None:
    contents = [(name, b"content" * 3_000) for name in ODD_NAMES]
    members = members_in(tmp_path, contents)
    packed = b"".join(pieces(BundleForm(format=BundleFormat.TAR_ZST), members))
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == by_tarfile(contents)


def test_without_zstandard_a_compressed_tar_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    composing._zstandard.cache_clear()
    monkeypatch.setitem(sys.modules, "zstandard", None)
    composing.check_format(BundleFormat.ZIP)
    with pytest.raises(JobRefused, match=r"mistamover\[zstd\]"):
        composing.check_format(BundleFormat.TAR_ZST)
