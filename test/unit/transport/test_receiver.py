"""The receiver at the far end, without ssh: what arrives is whole and as it was; what is hostile is declined."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mistamover.transport import receiver
from mistamover.transport.channel import BOOT, frame
from support import Entry, tree, wait_until
from unit.transport.peer import COMMAND, MOMENT, PROGRAM, Peer, directory, file, filesystem

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

NAMES = (
    b"plain",
    b" blanks ",
    b"new\nline",
    b"'quotes\"",
    b"-leading dash",
    b"$HOME `id` *",
    b"#a",
    b"back\\slash",
    b"invalid\xff\xfe",
    b"\xff" * 255,
    b"L" * 255,
    b"L" * 254,
    b"L" * 247,
    b"L" * 248,
    b"...",
    b"..a",
    b".dot",
)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The target directory."""
    made = tmp_path / "target"
    made.mkdir()
    return made


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the target with something in it; at the end it must be as it was."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "treasure").write_bytes(b"not to be touched")
    before, time = tree(made), made.stat().st_mtime_ns
    yield made
    assert tree(made) == before and made.stat().st_mtime_ns == time


@pytest.fixture
def peer(top: Path) -> Iterator[Peer]:
    """A running receiver for `top`."""
    with Peer(top) as running:
        yield running


# -- what arrives -----------------------------------------------------------------------------


@pytest.mark.parametrize("flush", [False, True])
def test_files_arrive_whole_with_mode_and_time(peer: Peer, top: Path, flush: bool) -> None:
    modes = (0o644, 0o600, 0o000, 0o444, 0o777, 0o4755, 0o2755, 0o1644, 0o6711)
    contents = {b"%o" % mode: os.urandom(mode * 10) for mode in modes}
    frames = [file(n, data, mode=int(n, 8), mtime_ns=MOMENT + int(n, 8)) for n, data in contents.items()]
    assert peer.batch(*frames, flush=flush) == "d" * (len(modes) + 1)
    found = tree(top)
    assert {name: (entry.mode, entry.mtime_ns) for name, entry in found.items()} == {
        b"%o" % mode: (mode, MOMENT + mode) for mode in modes
    }
    assert all((top / name.decode()).read_bytes() == data for name, data in contents.items())


@pytest.mark.parametrize("name", NAMES)
def test_any_name_arrives(peer: Peer, top: Path, name: bytes) -> None:
    below = b"%s/%s" % (name, name)
    assert peer.batch(file(b"flat " + name[:250], b"x"), directory(name), file(below, name)) == "ddd"
    assert (top / os.fsdecode(below)).read_bytes() == name
    assert len(tree(top)) == 3


def test_empty_and_largest_files_arrive(peer: Peer, top: Path) -> None:
    large = os.urandom((1 << 20) + 1)
    assert peer.batch(file(b"empty", b""), file(b"large", large), file(b"empty too", b"")) == "dddd"
    assert (top / "large").read_bytes() == large
    assert [(top / name).read_bytes() for name in ("empty", "empty too")] == [b"", b""]


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1"])
def test_every_hash_that_is_offered_is_understood(top: Path, algorithm: str) -> None:
    with Peer(top, algorithm=algorithm) as peer:
        good, bad = file(b"good", b"x", algorithm=algorithm), file(b"bad", b"y", digest=file(b"", b"x")[27:-1])
        assert peer.batch(good) == "dd"
        if algorithm == "sha256":
            assert peer.batch(bad) == "xd"


def test_directories_get_the_mode_and_time_of_the_source(peer: Peer, top: Path) -> None:
    (top / "there").mkdir(mode=0o700)
    frames = [
        directory(b"a", 0o2750, mtime_ns=MOMENT + 1),
        directory(b"a/b", 0o711, mtime_ns=MOMENT + 2),
        file(b"a/b/f", b"f"),
        directory(b"there", 0o755, mtime_ns=MOMENT + 3),
        file(b"there/g", b"g"),
        directory(b"not used"),
    ]
    assert peer.batch(*frames) == "ddd"
    found = tree(top)
    assert {n: (e.mode, e.mtime_ns - MOMENT) for n, e in found.items() if e.kind == "directory"} == {
        b"a": (0o2750, 1),
        b"a/b": (0o711, 2),
        b"there": (0o755, 3),
    }


def test_what_has_the_name_is_replaced(peer: Peer, top: Path, outside: Path) -> None:
    (top / "file").write_bytes(b"old and longer")
    (top / "link").symlink_to(outside / "treasure")
    (top / "first").write_bytes(b"shared")
    os.link(top / "first", top / "second")
    os.mkfifo(top / "fifo")
    assert peer.batch(*(file(name, b"new") for name in (b"file", b"link", b"second", b"fifo"))) == "ddddd"
    assert all((top / name).read_bytes() == b"new" and not (top / name).is_symlink() for name in ("file", "link"))
    assert (top / "first").read_bytes() == b"shared" and (top / "second").read_bytes() == b"new"
    assert stat.S_ISREG((top / "fifo").lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_umask_of_the_login_changes_nothing(top: Path, umask: int) -> None:
    with Peer(top, umask=umask) as peer:
        assert peer.batch(directory(b"d", 0o775), file(b"d/f", b"x", mode=0o664)) == "dd"
    assert {name: entry.mode for name, entry in tree(top).items()} == {b"d": 0o775, b"d/f": 0o664}


@as_root
def test_a_directory_that_gives_its_group_does_not_change_the_group(peer: Peer, top: Path) -> None:
    os.chown(top, 0, 4242)
    top.chmod(0o2775)
    assert peer.batch(directory(b"d"), file(b"d/f", b"x"), file(b"g", b"y")) == "ddd"
    assert {(top / name).stat().st_gid for name in ("d", "d/f", "g")} == {os.getegid()}
    assert {name: entry.mode for name, entry in tree(top).items()} == {b"d": 0o755, b"d/f": 0o644, b"g": 0o644}


@as_root
def test_owners_are_found_by_name_and_else_by_number(peer: Peer, top: Path) -> None:
    user, group = pwd.getpwnam("nobody"), grp.getgrnam("daemon")
    names = [
        frame(receiver.USER, b"nobody", user=5001),
        frame(receiver.GROUP, b"daemon", group=5002),
        frame(receiver.USER, b"no such user", user=5003),
        frame(receiver.GROUP, b"no\xffsuch group", group=5004),
    ]
    frames = [
        file(b"by name", b"1", user=5001, group=5002, mode=0o6755),
        file(b"unknown", b"2", user=5003, group=5004),
        file(b"number", b"3", user=5005, group=5006),
        frame(receiver.DIRECTORY, b"d", mode=0o3775, user=5001, group=5002, mtime_ns=MOMENT),
        file(b"d/root", b"4", user=0, group=0),
    ]
    assert peer.batch(*names, *frames) == "d" * 5
    owners = {
        name: (status.st_uid, status.st_gid) for name in tree(top) for status in [os.stat(bytes(top) + b"/" + name)]
    }
    assert owners == {
        b"by name": (user.pw_uid, group.gr_gid),
        b"unknown": (5003, 5004),
        b"number": (5005, 5006),
        b"d": (user.pw_uid, group.gr_gid),
        b"d/root": (0, 0),
    }
    assert tree(top)[b"by name"].mode == 0o6755, "a change of owner takes special bits away"
    # What was introduced once is known in the next batch.
    assert peer.batch(file(b"again", b"5", user=5001, group=5002)) == "dd"
    assert (top / "again").stat().st_uid == user.pw_uid


@pytest.fixture
def peer_of_a_user() -> Iterator[tuple[Peer, Path]]:
    """A receiver that runs as nobody, and its target directory."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv(1)")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        program = shutil.copy(PROGRAM, place)
        os.chmod(program, 0o644)
        top = Path(place, "target")
        top.mkdir()
        os.chown(top, 65534, 65534)
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        for python in (COMMAND[0], "/usr/bin/python3"):
            command = [*become, python, "-I", "-S", program]
            if subprocess.run([*command[:-1], "-c", ""], check=False, capture_output=True).returncode == 0:
                with Peer(top, command=command) as peer:
                    yield peer, top
                return
        pytest.skip("another user finds no python3 here")


def test_a_user_keeps_what_only_root_may_give_away(peer_of_a_user: tuple[Peer, Path]) -> None:
    peer, top = peer_of_a_user
    frames = [file(b"f", b"x", user=0, group=0, mode=0o4711), file(b"g", b"y", user=5000, group=5000)]
    assert peer.batch(*frames) == "ddd"
    assert {((top / n).stat().st_uid, (top / n).stat().st_gid) for n in ("f", "g")} == {(65534, 65534)}


def test_a_user_may_write_into_a_directory_of_somebody_else(peer_of_a_user: tuple[Peer, Path]) -> None:
    """Its mode and time are its owner's; that is no reason to send every file twice."""
    peer, top = peer_of_a_user
    shared = top / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert peer.batch(directory(b"shared", 0o755), file(b"shared/f", b"x", mode=0o600)) == "dd"
    assert shared.stat().st_mode & 0o777 == 0o777
    assert (shared / "f").read_bytes() == b"x"


# -- what is declined -------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [bytes(32), b"\xff" * 32])
def test_what_is_not_what_was_sent_is_declined(peer: Peer, top: Path, digest: bytes) -> None:
    (top / "old").write_bytes(b"old")
    assert peer.batch(file(b"old", b"new", digest=digest), file(b"d/fresh", b"new", digest=digest)) == "xxd"
    assert (top / "old").read_bytes() == b"old"
    assert sorted(tree(top)) == [b"d", b"old"]


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"..",
        b"/",
        b"../treasure",
        b"d/../../outside/treasure",
        b"..//outside/x",
        b"./x",
        b"d/./x",
        b"d//x",
        b"d/",
        b"d/.",
        b"d/..",
        b"a\0b",
        b"d\0/x",
        b"x" * 256,
        b"y" * 256 + b"/x",
    ],
)
def test_what_is_no_plain_name_is_declined(peer: Peer, top: Path, outside: Path, name: bytes) -> None:
    (top / "d").mkdir()
    before = set(tree(top))
    assert peer.batch(directory(name.rpartition(b"/")[0]), file(name, b"hostile"))[:1] == "x"
    assert set(tree(top)) <= before
    assert peer.batch(file(b"next", b"well")) == "dd", "the next batch is not harmed"


def test_an_absolute_name_leads_nowhere_outside(peer: Peer, top: Path, outside: Path) -> None:
    assert peer.batch(file(os.fsencode(outside / "treasure"), b"hostile"))[:1] == "x"
    assert peer.batch(file(b"/x", b"hostile"))[:1] == "x"
    assert not tree(top)


def test_no_part_of_a_path_may_be_a_link(peer: Peer, top: Path, outside: Path) -> None:
    (top / "link").symlink_to(outside)
    (top / "d").mkdir()
    (top / "d/up").symlink_to("../../outside")
    (top / "self").symlink_to("d")
    names = (b"link/x", b"link/treasure", b"link/new/x", b"d/up/x", b"self/x")
    frames = [directory(name.rpartition(b"/")[0], 0o777) for name in names] + [file(name, b"hostile") for name in names]
    assert peer.batch(*frames, file(b"d/well", b"well")) == "xxxxxdd"
    assert sorted(tree(top)) == [b"d", b"d/up", b"d/well", b"link", b"self"]


def test_what_is_in_the_way_is_not_removed(peer: Peer, top: Path) -> None:
    (top / "directory/inside").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "file").write_bytes(b"file")
    frames = [file(name, b"x") for name in (b"directory", b"empty", b"file/x", b"well")]
    assert peer.batch(*frames) == "xxxdd"
    assert sorted(tree(top)) == [b"directory", b"directory/inside", b"empty", b"file", b"well"]
    assert (top / "file").read_bytes() == b"file"


@pytest.mark.parametrize("flush", [False, True])
def test_a_full_disk_declines_what_does_not_fit(tmp_path: Path, flush: bool) -> None:
    top = tmp_path / "small"
    top.mkdir()
    with filesystem(top, "-t", "tmpfs", "-o", "size=1m", "none"), Peer(top) as peer:
        frames = [file(b"a", os.urandom(700_000)), file(b"b", os.urandom(700_000)), file(b"c", b"fits")]
        assert peer.batch(*frames, flush=flush) == "dxdd"
        assert sorted(tree(top)) == [b"a", b"c"]
        (top / "a").unlink()
        assert peer.batch(frames[1], flush=flush) == "dd"


def test_a_filesystem_without_inodes_declines(tmp_path: Path) -> None:
    top = tmp_path / "small"
    top.mkdir()
    with filesystem(top, "-t", "tmpfs", "-o", "nr_inodes=4", "none"), Peer(top) as peer:
        answers = peer.batch(*(file(b"%d" % number, b"x") for number in range(5)), file(b"d/e", b"x"))
        assert answers[:6] == "dddxxx"
        assert sorted(tree(top)) == [b"0", b"1", b"2"]


def test_a_read_only_filesystem_declines(tmp_path: Path) -> None:
    top = tmp_path / "small"
    top.mkdir()
    with filesystem(top, "-t", "tmpfs", "none"), Peer(top) as peer:
        assert peer.batch(file(b"a", b"x")) == "dd"
        subprocess.run(["mount", "-o", "remount,ro", top], check=True)
        assert peer.batch(file(b"a", b"y"), file(b"d/b", b"y"))[:2] == "xx"
        subprocess.run(["mount", "-o", "remount,rw", top], check=True)
        assert peer.batch(file(b"a", b"z")) == "dd"
        assert {name: entry.kind for name, entry in tree(top).items()} == {b"a": "file"}


def test_a_directory_without_permission_declines(peer_of_a_user: tuple[Peer, Path]) -> None:
    peer, top = peer_of_a_user
    (top / "closed").mkdir(mode=0o755)
    assert peer.batch(file(b"closed/x", b"x"), file(b"closed/d/x", b"x"), file(b"open", b"x"))[:3] == "xxd"
    assert sorted(tree(top)) == [b"closed", b"open"]


# -- the directory under it changes -----------------------------------------------------------


def test_it_tells_how_the_directory_is(peer: Peer, top: Path) -> None:
    assert peer.look() == receiver.STAY
    (top / ".stop").symlink_to("nowhere")
    assert peer.look() == receiver.STOP
    (top / ".stop").unlink()
    assert peer.look() == receiver.STAY
    top.rename(top.with_name("aside"))
    assert peer.look() == receiver.MOVED
    top.mkdir()
    assert peer.look() == receiver.MOVED
    assert peer.batch(file(b"x", b"x"))[-1:] == "x"
    assert not tree(top)
    top.rmdir()
    top.with_name("aside").rename(top)
    assert peer.look() == receiver.STAY


@pytest.mark.parametrize("how", ["renamed", "replaced", "removed", "linked away"])
@pytest.mark.parametrize("which", ["d", "d/e"])
def test_a_directory_that_goes_during_a_batch_declines_the_whole(peer: Peer, top: Path, how: str, which: str) -> None:
    peer.write(frame(receiver.BEGIN) + directory(b"d") + directory(b"d/e") + file(b"d/e/first", b"1"))
    wait_until(lambda: (top / "d/e/first").exists(), 10, "the first file is there")
    place = top / which
    if how == "removed":
        shutil.rmtree(place)
    else:
        place.rename(top.with_name("aside"))
    if how == "replaced":
        (top / "d/e").mkdir(parents=True)
    elif how == "linked away":
        (top.with_name("elsewhere") / "e").mkdir(parents=True)
        place.symlink_to(top.with_name("elsewhere"))
    peer.write(file(b"d/e/second", b"2") + file(b"other", b"3") + frame(receiver.END))
    answers = peer.read(4).decode()
    assert answers[0] + answers[2:] == "ddx"
    assert not (top / "d/e/second").exists()
    if how == "linked away":
        assert set(tree(top.with_name("elsewhere"))) == {b"e"}
    assert peer.batch(file(b"d/f", b"4")) == ("xd" if how == "linked away" and which == "d" else "dd")


def test_more_directories_than_are_kept_open(peer: Peer, top: Path) -> None:
    """Also those that were closed meanwhile get their times, and are looked at in the end."""
    names = [b"%02x/%02x" % (n % 61, n % 256) for n in range(5000)]
    frames = [directory(name, mtime_ns=MOMENT + 7) for above in dict.fromkeys(names) for name in (above[:2], above)]
    frames += [file(b"%s/%d" % (name, number), b"%d" % number) for number, name in enumerate(names)]
    peer.write(frame(receiver.BEGIN) + b"".join(frames))
    wait_until(lambda: len(os.listdir(f"/proc/{peer.process.pid}/fd")) > 100, 10, "directories are open")
    most = len(os.listdir(f"/proc/{peer.process.pid}/fd"))
    peer.write(frame(receiver.END))
    assert peer.read(5001) == b"d" * 5001
    assert most < receiver.MOST_DIRECTORIES + 20
    assert psutil.Process(peer.process.pid).num_fds() < 10
    found = tree(top)
    assert {e.mtime_ns for e in found.values() if e.kind == "directory"} == {MOMENT + 7}
    assert sum(e.kind == "file" for e in found.values()) == 5000


def test_deeper_than_directories_are_kept_open(peer: Peer, top: Path) -> None:
    parts = [b"%x" % (number % 16) for number in range(300)]
    above = [b"/".join(parts[: depth + 1]) for depth in range(300)]
    assert peer.batch(*map(directory, above), file(above[-1] + b"/leaf", b"x"), file(b"a", b"y")) == "ddd"
    assert len(tree(top)) == 302


def test_many_directories_of_which_the_first_is_replaced_meanwhile(peer: Peer, top: Path) -> None:
    """Its descriptor was closed and opened again: another directory by then."""
    peer.write(frame(receiver.BEGIN) + file(b"first/a", b"1"))
    wait_until(lambda: (top / "first/a").exists(), 10, "the first file is there")
    (top / "first").rename(top.with_name("aside"))
    (top / "first").mkdir()
    others = b"".join(file(b"d%d/x" % number, b"x") for number in range(receiver.MOST_DIRECTORIES + 1))
    peer.write(others + file(b"first/b", b"2") + frame(receiver.END))
    assert peer.read(receiver.MOST_DIRECTORIES + 4)[-1:] == receiver.DECLINED


# -- the wire ---------------------------------------------------------------------------------


def test_input_that_is_cut_off_anywhere_leaves_nothing(top: Path) -> None:
    whole = frame(receiver.BEGIN) + directory(b"d") + file(b"d/name", b"content") + file(b"d/empty", b"")
    complete = {len(whole): {b"d/name", b"d/empty"}}
    first_ends = len(whole) - len(file(b"d/empty", b""))
    for size in range(0, len(whole) + 1, 3):
        place = top / str(size)
        place.mkdir()
        with Peer(place) as peer:
            peer.write(whole[:size])
            assert peer.finish() == 0, size
        there = {name for name, entry in tree(place).items() if entry.kind == "file"}
        assert there == complete.get(size, {b"d/name"} if size >= first_ends else set()), size


def test_garbage_ends_it(top: Path) -> None:
    for garbage in (b"\0" * receiver.HEADER.size, b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n" * 10):
        with Peer(top) as peer:
            peer.write(garbage)
            assert peer.finish() == 0
    assert not tree(top)


def test_it_ends_without_a_word_when_nobody_listens(peer: Peer, top: Path) -> None:
    assert peer.process.stdout is not None
    peer.process.stdout.close()
    peer.write(frame(receiver.BEGIN) + file(b"a", b"x"))
    peer.finish()
    assert set(tree(top)) <= {b"a"}


# -- power ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"top", b"there/file", b"new/deep/file"])
def test_what_is_confirmed_with_a_flush_survives_a_loss_of_power(tmp_path: Path, name: bytes) -> None:
    """The disk as it is at the moment of the confirmation is looked at after a restart."""
    if shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:" + os.environ.get("PATH", "")) is None:
        pytest.skip("needs mkfs.ext4(8)")
    disk, top = tmp_path / "disk", tmp_path / "top"
    top.mkdir()
    with disk.open("wb") as image:
        image.truncate(16 << 20)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", disk], check=True, capture_output=True)
    # Nothing is written out by itself within the length of the test.
    with filesystem(top, "-o", "loop,commit=600", os.fspath(disk)):
        (top / "there").mkdir()
        subprocess.run(["sync", "-f", top], check=True)
        with Peer(top) as peer:
            assert peer.batch(file(name, b"proven"), flush=True) == "dd"
            shutil.copyfile(disk, tmp_path / "after")
    with filesystem(top, "-o", "loop", os.fspath(tmp_path / "after")):
        assert (top / os.fsdecode(name)).read_bytes() == b"proven"


# -- anything ---------------------------------------------------------------------------------

LAST = st.binary(min_size=1, max_size=40).filter(lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b".."))
FILES = st.lists(
    st.tuples(
        st.lists(LAST, min_size=1, max_size=4).map(b"/".join),
        st.binary(max_size=300),
        st.integers(0, 0o7777),
        st.integers(0, 2**62),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(files=FILES, flush=st.booleans())
def test_any_tree_is_reproduced_exactly(files: list[tuple[bytes, bytes, int, int]], flush: bool) -> None:
    wanted: dict[bytes, Entry] = {}
    frames: list[bytes] = []
    answers = ""
    for name, content, mode, time in files:
        above = [name[:end] for end in range(len(name)) if name[end : end + 1] == b"/"]
        blocked = any(wanted[part].kind == "file" for part in above if part in wanted)
        if blocked or (name in wanted and wanted[name].kind == "directory"):
            answers += "x"
        else:
            for part in above:
                wanted.setdefault(part, Entry("directory", b"", 0o755, MOMENT))
                frames.append(directory(part))
            wanted[name] = Entry("file", hashlib.sha256(content).hexdigest(), mode, time)
            answers += "d"
        frames.append(file(name, content, mode=mode, mtime_ns=time))
    with tempfile.TemporaryDirectory() as place, Peer(Path(place)) as peer:
        assert peer.batch(*frames, flush=flush) == answers + "d"
        assert tree(Path(place)) == wanted


def test_a_receiver_whose_text_is_cut_off_ends() -> None:
    """Given a connection that is lost while the program's text is under way, when it has ended, nothing runs on."""
    words = [sys.executable, "-I", "-S", "-c", BOOT, "1000"]
    for text in (b"", b"import os\n", b"x" * 999):
        ended = subprocess.run(words, input=text, capture_output=True, timeout=20, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
