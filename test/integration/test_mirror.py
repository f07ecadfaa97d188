"""Mirrors: the target follows the source, the source is never touched, and removal is never rash."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import laws
from laws import contents, tree
from mistamover.testing.sshd import PrivateSshd
from support import Entry, Site, Stream, wait_until

MIRROR = {"rsync_ssh": {"transfer_mode": "mirror"}}


def mirror(scratch: Path, sshd: PrivateSshd, **outgoing: object) -> tuple[Site, Stream]:
    return laws.make(scratch, sshd, everywhere=MIRROR, data_stream={"rescan_interval": 1}, outgoing=outgoing)


def theirs(path: Path) -> dict[bytes, Entry]:
    return {name: entry for name, entry in tree(path).items() if not laws.ours(os.fsdecode(name))}


def equal(one: Stream, timeout: float = 10) -> None:
    """Wait until both trees are the same."""
    try:
        wait_until(lambda: theirs(one.target) == tree(one.source), timeout, "both trees are equal", every=0.1)
    except AssertionError as error:
        source, target = tree(one.source), theirs(one.target)
        different = [(n, source.get(n), target.get(n)) for n in source.keys() | target.keys()]
        raise AssertionError(f"{error}: {[d for d in different if d[1] != d[2]][:3]}") from None


def age(one: Stream) -> None:
    """Give directories and links old times: rsync leaves a time alone that is right to the second."""
    for directory, directories, files in os.walk(one.source):
        for name in (*directories, *files):
            whole = os.path.join(directory, name)
            if not os.path.isfile(whole) or os.path.islink(whole):
                os.utime(whole, ns=(10**18, 10**18), follow_symlinks=False)


def plant(one: Stream) -> dict[bytes, Entry]:
    """Put a tree of every kind of thing into the source, and return it."""
    for number in range(30):
        laws.put(one.source / f"d{number % 3}/e{number % 2}/file {number}", b"%d" % number * 100)
    laws.put(one.source / ".dot/file", b"dot")
    laws.put(os.fsencode(one.source) + b"/odd\n\xff'*", b"odd")
    (one.source / "empty").mkdir()
    (one.source / "link").symlink_to("d0/nowhere")
    os.utime(one.source / "link", ns=(10**18, 10**18), follow_symlinks=False)
    os.link(one.source / "d0/e0/file 0", one.source / "d1/hard")
    (one.source / "d0").chmod(0o750)
    (one.source / "d0/e0/file 0").chmod(0o640)
    os.utime(one.source / "d1/e1/file 1", ns=(10**18, 10**18))
    age(one)
    return tree(one.source)


def deliveries(site: Site) -> int:
    return len(site.history())


def test_the_tree_is_equal_and_the_source_untouched(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd)
    before = plant(one)
    with laws.lawful(site, one):
        equal(one)
        assert tree(one.source) == before
    assert theirs(one.target) == before
    assert (one.target / "d0/e0/file 0").stat().st_ino == (one.target / "d1/hard").stat().st_ino


def test_what_arrives_while_it_runs(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd)
    with laws.lawful(site, one):
        before = plant(one)
        equal(one)
        assert tree(one.source) == before


def test_every_change_is_repeated(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd)
    plant(one)
    with laws.lawful(site, one):
        equal(one)
        path = one.source / "d0/e0/file 0"
        before = path.stat()
        with path.open("r+b") as file:
            file.write(b"X")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        equal(one)
        assert (one.target / "d0/e0/file 0").read_bytes().startswith(b"X")
        path.chmod(0o604)
        equal(one)
        (one.source / "empty").chmod(0o705)
        equal(one)
        os.utime(one.source / "d1/e1/file 1", ns=(10**17, 10**17))
        equal(one)
        with (one.source / "d1/e1/file 1").open("ab") as file:
            file.write(b"appended")
        equal(one)
        (one.source / "link").unlink()
        (one.source / "link").symlink_to("elsewhere")
        age(one)
        equal(one)
        laws.put(one.source / "new", b"new")
        os.replace(one.source / "new", one.source / "d2/e0/file 2")
        wait_until(lambda: contents(one.target).get(b"d2/e0/file 2") == laws.digest(b"new"), 10, "replaced")


def test_a_change_is_repeated_at_once(sshd: PrivateSshd, scratch: Path) -> None:
    """By event, not only by the next full scan."""
    site, one = laws.make(scratch, sshd, everywhere=MIRROR, data_stream={"rescan_interval": 600})
    laws.put(one.source / "f", b"0")
    with laws.lawful(site, one):
        wait_until(lambda: (one.target / "f").exists(), 10, "the first version")
        for number in range(5):
            content = laws.put(one.source / "f", b"%d" % number * 10)
            wait_until(lambda c=content: contents(one.target).get(b"f") == c, 10, "the change")  # type: ignore[misc]
        (one.source / "f").chmod(0o640)
        wait_until(lambda: (one.target / "f").stat().st_mode & 0o777 == 0o640, 10, "the mode")


def test_a_change_during_the_send_is_repeated_at_once(sshd: PrivateSshd, scratch: Path) -> None:
    """A file that is replaced while it travels was heard of: it must not wait for the next full scan."""
    size = 3 << 20
    site, one = laws.make(scratch, sshd, everywhere=laws.slow(MIRROR, size), data_stream={"rescan_interval": 600})
    with laws.lawful(site, one, timeout=20):
        laws.put(one.source / "f", os.urandom(size))
        wait_until(lambda: laws.half_sent(one), 10, "it is half sent")
        laws.put(one.source / "g.tmp", b"newer")
        os.replace(one.source / "g.tmp", one.source / "f")
        wait_until(lambda: contents(one.target).get(b"f") == laws.digest(b"newer"), 10, "the newer version")


def test_deletion_is_not_repeated_by_default(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd)
    before = plant(one)
    with laws.lawful(site, one):
        equal(one)
        (one.source / "d0/e0/file 0").unlink()
        shutil.rmtree(one.source / "d1")
        laws.put(one.source / "z", b"z")
        wait_until(lambda: (one.target / "z").exists(), 10, "something else arrives")
        scanned = os.stat(one.target / "z").st_mtime
        laws.put(one.source / "z2", b"z")
        wait_until(lambda: (one.target / "z2").exists(), 10, "something else arrives")
        assert scanned
    assert set(before) <= set(theirs(one.target))


def test_mirror_delete(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd, mirror_delete=True)
    plant(one)
    with laws.lawful(site, one):
        laws.put(one.target / "somebody else's", b"never ours")
        wait_until(lambda: set(tree(one.source)) <= set(theirs(one.target)), 10, "all is there")
        shutil.rmtree(one.source / "d1")
        os.unlink(os.fsencode(one.source) + b"/odd\n\xff'*")
        (one.source / "link").unlink()
        (one.source / "empty").rmdir()
        wait_until(
            lambda: set(theirs(one.target)) == {*tree(one.source), b"somebody else's"}, 10, "what is gone is removed"
        )
        laws.put(one.source / "d1/again", b"again")
        wait_until(lambda: contents(one.target).get(b"d1/again"), 10, "a name that comes back")


def test_mirror_max_delete_guards(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd, mirror_delete=True, mirror_max_delete=5)
    plant(one)
    with laws.lawful(site, one):
        equal(one)
        before = set(theirs(one.target))
        # All at once: a scan in between would see fewer names gone than the guard minds.
        (one.source / "d1").rename(scratch / "gone")
        wait_until(lambda: "mirror_max_delete" in str(laws.snapshot(site, one).get("hold")), 10, "status says so")
        laws.put(one.source / "z", b"z")
        wait_until(lambda: (one.target / "z").exists(), 10, "sending goes on")
        assert set(theirs(one.target)) == before | {b"z"}
        assert "mirror_max_delete" in site.ask("status").stdout


def test_empty_source_removes_nothing(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd, mirror_delete=True)
    laws.put(one.source / "a", b"a")
    laws.put(one.source / "d/b", b"b")
    age(one)
    with laws.lawful(site, one):
        equal(one)
        before = set(theirs(one.target))
        (one.source / "a").unlink()
        (one.source / "d").rename(scratch / "d")
        laws.settled(site, one)
        wait_until(lambda: "empty" in str(laws.snapshot(site, one).get("hold")), 10, "status says so")
        assert set(theirs(one.target)) == before
        (scratch / "d").rename(one.source / "d")
        wait_until(lambda: set(theirs(one.target)) == {b"d", b"d/b"}, 10, "now only what is really gone")


def test_not_sent_again_after_a_restart(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd)
    plant(one)
    with laws.lawful(site, one):
        equal(one)
    count = deliveries(site)
    with laws.lawful(site, one):
        laws.put(one.source / "z", b"z")
        equal(one)
    new = deliveries(site) - count
    assert new == 1, f"{new} deliveries for one new file"


def test_one_off_twice(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = mirror(scratch, sshd)
    before = plant(one)
    assert site.one_off().returncode == 0
    assert theirs(one.target) == before == tree(one.source)
    count = deliveries(site)
    assert site.one_off().returncode == 0
    assert deliveries(site) == count
    laws.no_leftovers(one)


@pytest.mark.parametrize("keys", [{"use_checksum": "True"}])
def test_with_checksum(sshd: PrivateSshd, scratch: Path, keys: dict[str, object]) -> None:
    site, one = laws.make(scratch, sshd, everywhere={"rsync_ssh": {"transfer_mode": "mirror", **keys}})
    before = plant(one)
    shutil.copytree(one.source, one.target, symlinks=True, dirs_exist_ok=True)
    with laws.lawful(site, one):
        equal(one)
        assert tree(one.source) == before
        wait_until(lambda: laws.snapshot(site, one).get("waiting") == 0, 10, "all have ended")
