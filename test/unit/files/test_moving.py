"""Moving what is somebody's data: never in the place of another, and whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mistamover.files import moving
from mistamover.files.moving import copy_whole, make_directories, remove_whole, rename_exclusively

#: As the kernel does it, and as it is done where the filesystem cannot.
RENAMES = pytest.mark.parametrize("rename", [rename_exclusively, moving._rename_by_a_link], ids=["kernel", "link"])
Rename = Callable[[bytes, bytes], None]


def make(path: Path, kind: str) -> bytes:
    if kind == "file":
        path.write_text(kind)
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
    return os.fsencode(path)


@RENAMES
@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_a_free_name_is_taken(tmp_path: Path, rename: Rename, kind: str) -> None:
    source = make(tmp_path / "a\n", kind)
    inode = os.lstat(source).st_ino
    rename(source, os.fsencode(tmp_path / "b"))
    assert not os.path.lexists(source)
    assert os.lstat(tmp_path / "b").st_ino == inode


@RENAMES
@pytest.mark.parametrize("kind", ["file", "link", "directory"])
@pytest.mark.parametrize("taker", ["file", "link", "directory"])
def test_a_name_that_is_taken_is_left_alone(tmp_path: Path, rename: Rename, kind: str, taker: str) -> None:
    source, destination = make(tmp_path / "a", kind), make(tmp_path / "b", taker)
    before = os.lstat(source), os.lstat(destination)
    with pytest.raises(FileExistsError):
        rename(source, destination)
    assert (os.lstat(source), os.lstat(destination)) == before


@RENAMES
def test_what_is_not_there_cannot_be_renamed(tmp_path: Path, rename: Rename) -> None:
    with pytest.raises(FileNotFoundError):
        rename(os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b"))


def test_another_filesystem_is_told_by_its_error(tmp_path: Path) -> None:
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second filesystem")
    with pytest.raises(OSError) as caught:
        rename_exclusively(make(tmp_path / "a", "file"), b"/dev/shm/mistamover-%d" % os.getpid())
    assert caught.value.errno == errno.EXDEV


def test_a_copy_keeps_modes_times_links_and_owners(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d" / "f").write_text("x")
    (top / "l").symlink_to("d/f")
    (top / "d" / "f").chmod(0o4751)
    os.utime(top / "d" / "f", ns=(10**18, 10**18 + 7))
    if os.geteuid() == 0:
        for path in (top / "d", top / "d" / "f", top / "l"):
            os.chown(path, 1234, 1235, follow_symlinks=False)
        (top / "d" / "f").chmod(0o4751)
    copy_whole(os.fsencode(top), os.fsencode(tmp_path / "copy"))
    for name in (".", "d", "d/f", "l"):
        then, now = os.lstat(top / name), os.lstat(tmp_path / "copy" / name)
        assert (then.st_mode, then.st_uid, then.st_gid) == (now.st_mode, now.st_uid, now.st_gid), name
        assert then.st_mtime_ns == now.st_mtime_ns, name
    assert os.readlink(tmp_path / "copy" / "l") == "d/f"


def test_what_is_removed_is_removed_whole_and_never_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "d")
    remove_whole(os.fsencode(link))
    assert (tmp_path / "d" / "e" / "f").exists()
    for _ in range(2):
        remove_whole(os.fsencode(tmp_path / "d"))
    assert os.listdir(tmp_path) == []


def test_directories_belong_to_the_owner_of_the_one_above(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 1234, 1235)
    make_directories(os.fsencode(tmp_path / "a" / "b"))
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")}
    assert len(owners) == 1
    make_directories(os.fsencode(tmp_path / "a" / "b"))
