"""Moves, end to end: any name, any kind, any time of arrival; the file is at the target as it was, and gone here."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

import laws
from laws import contents, tree
from mistamover.testing.sshd import PrivateSshd
from support import wait_until

NAMES = (
    b"plain",
    b" blanks before and after ",
    b"new\nline",
    b"\n",
    b"-leading-dash",
    b"--delete",
    b"single'quote",
    b'double"quote',
    b"glob*[a-z]?{x,y}",
    b"#comment",
    b";comment",
    b"colon:in:it",
    b"~tilde",
    b"$HOME `id` $(id)",
    b"tab\tand\x01control\x7f",
    b"invalid\xff\xfe utf-8",
    "Umlaut-\u00e4\u00f6\u00fc \u65e5\u672c".encode(),
    b"back\\slash",
    b"\\",
    b"back\\#101slash",
    b"looks\\#012escaped",
    b"a|b|c",
    b"L" * 255,
    b"\xff" * 255,
    b"ends with dot.",
    b"...",
    b"two..dots",
)
KEPT_NAMES = tuple(name for name in NAMES if not name.startswith(b"."))


def exists(path: Path) -> bool:
    return os.path.lexists(path)


def test_any_name_at_any_depth(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    top = os.fsencode(one.source) + b"/"
    promised = {name: laws.put(top + name, name) for name in KEPT_NAMES}
    for name in KEPT_NAMES:
        below = b"deep/%s/er/%s" % (name, name)
        promised[below] = laws.put(top + below, b"below " + name)
    before = {name: entry for name, entry in tree(one.source).items() if entry.kind == "file"}
    with laws.lawful(site, one):
        laws.arrived(one, promised)
        wait_until(lambda: not exists(one.source / "deep"), 10, "emptied directories go")
    after = {name: entry for name, entry in tree(one.target).items() if entry.kind == "file"}
    assert after == before
    history = {bytes.fromhex(d["name_hex"]) if "name_hex" in d else d["name"].encode() for d in site.history()}
    assert history >= set(promised)


def test_names_that_arrive_while_it_runs(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    with laws.lawful(site, one):
        top = os.fsencode(one.source) + b"/"
        promised = {}
        for name in KEPT_NAMES:
            promised[name] = laws.put(top + name, name * 7)
            promised[b"d/" + name] = laws.put(top + b"d/" + name, name * 9)
        laws.arrived(one, promised)


def test_very_deep(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    name = b"/".join([b"%03d" % n for n in range(200)]) + b"/leaf"
    promised = {name: laws.put(os.fsencode(one.source) + b"/" + name, b"deep")}
    with laws.lawful(site, one):
        laws.arrived(one, promised)
        wait_until(lambda: not os.listdir(one.source), 10, "200 emptied directories go")


def test_links_are_sent_and_never_followed(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    outside = scratch / "outside"
    laws.put(outside / "secret", b"not to be sent, not to be removed")
    (one.source / "sub").mkdir()
    for where in (one.source, one.source / "sub"):
        (where / "to-directory").symlink_to(outside)
        (where / "to-file").symlink_to(outside / "secret")
        (where / "dangling").symlink_to("no/such/thing")
        (where / "up").symlink_to("..")
    before = {name: entry for name, entry in tree(one.source).items() if entry.kind == "link"}
    with laws.lawful(site, one):
        laws.arrived(one, {name: entry.content for name, entry in before.items()})
    after = {name: entry for name, entry in tree(one.target).items() if entry.kind == "link"}
    # rsync does not set the time of a new link when it is right to the second.
    assert {n: e._replace(mtime_ns=0) for n, e in after.items()} == {
        n: e._replace(mtime_ns=0) for n, e in before.items()
    }
    assert all(after[n].mtime_ns // 10**9 == before[n].mtime_ns // 10**9 for n in before)
    assert (outside / "secret").read_bytes() == b"not to be sent, not to be removed"


@pytest.mark.parametrize("policy", ["ignore", "quarantine"])
def test_links_by_policy(sshd: PrivateSshd, scratch: Path, policy: str) -> None:
    site, one = laws.make(scratch, sshd, data_stream={"symlinks": policy})
    (one.source / "link").symlink_to("/etc")
    promised = {b"file": laws.put(one.source / "file", b"x")}
    with laws.lawful(site, one):
        laws.arrived(one, promised)
        if policy == "quarantine":
            wait_until(lambda: exists(one.source / "quarantine/link"), 10, "the link is in quarantine")
            assert not exists(one.source / "link")
            assert "symbolic link" in (one.source / "quarantine/link.reason").read_text()
    assert not exists(one.target / "link")
    assert policy == "quarantine" or exists(one.source / "link")


def test_empty_directories(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    for name in ("empty", "a/b/c", "a/d"):
        (one.source / name).mkdir(parents=True)
    (one.source / "empty").chmod(0o750)
    with laws.lawful(site, one):
        wait_until(lambda: not os.listdir(one.source), 10, "empty directories go")
        assert sorted(tree(one.target)) == [b"a", b"a/b", b"a/b/c", b"a/d", b"empty"] or (
            wait_until(lambda: b".mistamover" in tree(one.target), 1, "only ours besides")
        )
    assert sorted(tree(one.target)) == [b"a", b"a/b", b"a/b/c", b"a/d", b"empty"]
    assert stat.S_IMODE((one.target / "empty").stat().st_mode) == 0o750


def test_an_emptied_directory_goes_only_after_its_age(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, data_stream={"empty_directory_age": 60})
    with laws.lawful(site, one):
        promised = {b"d/x": laws.put(one.source / "d/x", b"1")}
        laws.arrived(one, promised)
        promised = {b"d/y": laws.put(one.source / "d/y", b"2")}
        laws.arrived(one, promised)
        assert (one.source / "d").is_dir()


def test_hard_links_stay_hard_links(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    promised = {b"d/first": laws.put(one.source / "d/first", b"shared" * 1000)}
    for name in (b"second", b"d/third", b"e/fourth"):
        (one.source / "e").mkdir(exist_ok=True)
        os.link(one.source / "d/first", os.fsencode(one.source) + b"/" + name)
        promised[name] = promised[b"d/first"]
    with laws.lawful(site, one):
        laws.arrived(one, promised)
    inodes = {os.lstat(os.fsencode(one.target) + b"/" + name).st_ino for name in promised}
    assert len(inodes) == 1


def test_sparse_mode_and_mtime(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    sparse = one.source / "sparse"
    with sparse.open("wb") as file:
        file.truncate(40 << 20)
        file.seek(20 << 20)
        file.write(b"island")
    for mode in (0o400, 0o444, 0o600, 0o755, 0o4711, 0o000):
        path = one.source / f"mode{mode:o}"
        path.write_bytes(b"m")
        path.chmod(mode)
        os.utime(path, ns=(10**18, 10**18 + mode * 1_000_003))
    before = tree(one.source)
    with laws.lawful(site, one):
        laws.arrived(one, {name: entry.content for name, entry in before.items()})
    assert tree(one.target) == before
    assert (one.target / "sparse").stat().st_blocks * 512 < 1 << 20


def test_special_dot_pattern_and_suffix_are_ignored_and_stay(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, data_stream={"ignore": "*.bak 'with blank*' sub/skip*"})
    os.mkfifo(one.source / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(one.source)
        try:
            server.bind("socket")
        finally:
            os.chdir(before)
        stay = [".hidden", ".dir/inside", "sub/.hidden", "x.bak", "sub/x.bak", "with blank.txt", "sub/skipped"]
        stay += ["x.tmp", "x.part", "x~", "sub/x.crdownload"]
        for name in stay:
            laws.put(one.source / name, b"stay")
        promised = {b"sub/skip/me-not.txt": laws.put(one.source / "go/me-not.txt", b"go")}
        promised = {b"go/me-not.txt": promised[b"sub/skip/me-not.txt"]}
        with laws.lawful(site, one):
            laws.arrived(one, promised)
            status = laws.settled(site, one)
            assert status["ignored"] == len(stay) + 2
            for name, why in (("fifo", "FIFO"), ("socket", "socket"), (".hidden", "dot"), ("x.bak", "ignore")):
                answer = site.ask("why", str(one.source / name))
                assert why in answer.stdout, (name, answer)
        for name in [*stay, "fifo", "socket"]:
            assert exists(one.source / name), name
        assert set(contents(one.target)) == set(promised)


def test_a_temporary_name_goes_once_it_is_renamed(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    with laws.lawful(site, one):
        content = laws.put(one.source / "data.part", b"whole")
        wait_until(lambda: laws.snapshot(site, one).get("ignored") == 1, 10, "it is ignored")
        (one.source / "data.part").rename(one.source / "data")
        laws.arrived(one, {b"data": content})


@pytest.mark.parametrize("first", ["fifo", "link"])
def test_a_file_in_the_place_of_what_was_ignored(sshd: PrivateSshd, scratch: Path, first: str) -> None:
    """What is ignored for what it is, is not ignored for its name."""
    site, one = laws.make(scratch, sshd, data_stream={"symlinks": "ignore"})
    path = one.source / "x"
    if first == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("elsewhere")
    with laws.lawful(site, one):
        wait_until(lambda: laws.snapshot(site, one).get("ignored") == 1, 10, "it is ignored")
        path.unlink()
        laws.arrived(one, {b"x": laws.put(path, b"now a file")}, timeout=8)


def test_a_directory_in_the_place_of_a_waiting_file(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    (one.source / ".stop").touch()
    with laws.lawful(site, one):
        laws.put(one.source / "x", b"file")
        wait_until(lambda: "x" in laws.waiting(site, one), 10, "it waits")
        (one.source / "x").unlink()
        promised = {b"x/y": laws.put(one.source / "x/y", b"in the directory")}
        laws.put(one.source / "x/.keep", b"")
        (one.source / ".stop").unlink()
        laws.arrived(one, promised, timeout=10)
        laws.settled(site, one)
        laws.arrived(one, {b"other": laws.put(one.source / "other", b"other")})
        laws.settled(site, one)
        assert "did not confirm" not in laws.logs(site), laws.logs(site)[-2000:]


def test_a_directory_in_use_is_not_sent_over_and_over(sshd: PrivateSshd, scratch: Path) -> None:
    """An empty directory that gets a dot file before it could be removed stays; it is not sent without end."""
    site, one = laws.make(scratch, sshd, data_stream={"rescan_interval": 0.5})
    (one.source / ".stop").touch()
    (one.source / "d").mkdir()
    with laws.lawful(site, one):
        wait_until(lambda: "d" in laws.waiting(site, one), 10, "the empty directory waits")
        laws.put(one.source / "d/.keep", b"")
        (one.source / ".stop").unlink()
        laws.arrived(one, {b"x": laws.put(one.source / "x", b"x")})
        for number in range(10):
            laws.arrived(one, {b"n": laws.put(one.source / "n", b"%d" % number)})
        assert sum(d["name"] == "d" for d in site.history()) <= 2


def test_a_source_that_cannot_be_removed_is_not_sent_over_and_over(sshd: PrivateSshd, scratch: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("chattr"):
        pytest.skip("needs root and chattr")
    site, one = laws.make(scratch, sshd)
    content = laws.put(one.source / "d/stuck", b"stuck")
    if os.system(f"chattr +i '{one.source / 'd'}'") != 0:
        pytest.skip("this filesystem has no immutable directories")
    try:
        with site.running():
            wait_until(lambda: exists(one.target / "d/stuck"), 10, "it is delivered")
            promised = {b"other": laws.put(one.source / "other", b"other")}
            laws.arrived(one, promised)
            for number in range(10):
                laws.arrived(one, {b"n": laws.put(one.source / "n", b"%d" % number)})
            times = sum(d["name"] == "d/stuck" for d in site.history())
            text = laws.logs(site)
        assert times <= 5, f"sent {times} times"
        assert "cannot be removed" in text
        laws.somewhere(one, {b"d/stuck": content})
    finally:
        os.system(f"chattr -i '{one.source / 'd'}'")


def test_own_ssh_command(sshd: PrivateSshd, scratch: Path) -> None:
    command = f"rsync -e 'ssh -F {sshd.ssh_config} -o Compression=no'"
    site, one = laws.make(scratch, sshd, everywhere={"rsync_ssh": {"cmd": command, "ssh_config": None}})
    promised = {b"a": laws.put(one.source / "a", b"a" * 100_000)}
    with laws.lawful(site, one):
        laws.arrived(one, promised)


@pytest.mark.parametrize(
    "keys", [{"use_checksum": "True"}, {"check_size": "True"}, {"use_checksum": "True", "cmd": "rsync -z"}]
)
def test_ways_to_compare(sshd: PrivateSshd, scratch: Path, keys: dict[str, object]) -> None:
    """Neither the same content, nor the same size and time at the target, must confuse it."""
    site, one = laws.make(scratch, sshd, everywhere={"rsync_ssh": keys})
    promised = {}
    for number in range(20):
        name = b"f%d" % number
        promised[name] = laws.put(os.fsencode(one.source) + b"/" + name, b"new content %d" % number)
        there = b"new content %d" if number % 2 else b"old content %d"
        laws.put(os.fsencode(one.target) + b"/" + name, there % number)
        for side in (one.source, one.target):
            os.utime(os.fsencode(side) + b"/" + name, ns=(10**18, 10**18))
    with laws.lawful(site, one):
        laws.arrived(one, promised)


@pytest.mark.parametrize("algorithm", ["md5", "sha1"])
def test_hash_in_the_history(sshd: PrivateSshd, scratch: Path, algorithm: str) -> None:
    import hashlib

    site, one = laws.make(scratch, sshd, outgoing={"hash": algorithm})
    promised = {b"empty": laws.put(one.source / "empty", b""), b"some": laws.put(one.source / "some", b"s" * 70_000)}
    with laws.lawful(site, one):
        laws.arrived(one, promised)
    wanted = {
        name: hashlib.new(algorithm, data).hexdigest() for name, data in (("empty", b""), ("some", b"s" * 70_000))
    }
    found = {d["name"]: d.get("digest") or d.get("hash") for d in site.history()}
    assert {name: str(value).rpartition(":")[2] for name, value in found.items()} == wanted


def test_missing_target_directory_is_made(sshd: PrivateSshd, scratch: Path) -> None:
    site = laws.Site(scratch, sshd)
    where = scratch / "remote/not/yet there 'quoted'"
    one = site.add("one", data_stream={"empty_directory_age": 0.5}, outgoing={"target_dir": where})
    one = one._replace(target=where)
    promised = {b"a": laws.put(one.source / "a", b"a")}
    with laws.lawful(site, one):
        laws.arrived(one, promised)


def test_a_tree_that_is_renamed_in(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, data_stream={"rescan_interval": 600})
    promised = {}
    for number in range(60):
        name = b"tree/d%d/e%d/file%d" % (number % 3, number % 7, number)
        promised[name] = laws.put(os.fsencode(scratch) + b"/aside/" + name, b"%d" % number)
    with laws.lawful(site, one):
        (scratch / "aside/tree").rename(one.source / "tree")
        laws.arrived(one, promised)


def test_a_directory_renamed_within(sshd: PrivateSshd, scratch: Path) -> None:
    """A directory that is renamed while its files wait is delivered under its new name, once."""
    site, one = laws.make(scratch, sshd, data_stream={"rescan_interval": 600})
    (one.source / ".stop").touch()
    with laws.lawful(site, one):
        for number in range(30):
            laws.put(one.source / f"old/f{number}", b"%d" % number)
        wait_until(lambda: {f"old/f{n}" for n in range(30)} <= laws.waiting(site, one), 10, "all wait")
        (one.source / "old").rename(one.source / "new")
        (one.source / ".stop").unlink()
        laws.arrived(one, {b"new/f%d" % n: laws.digest(b"%d" % n) for n in range(30)})
    assert not exists(one.target / "old")


def test_a_burst_while_it_runs(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, data_stream={"rescan_interval": 600})
    with laws.lawful(site, one):
        promised = {}
        for number in range(3000):
            name = b"b%d/f%d" % (number % 20, number)
            promised[name] = laws.put(os.fsencode(one.source) + b"/" + name, b"burst %d" % number)
        laws.arrived(one, promised, timeout=12)
        assert laws.settled(site, one)["delivered"] >= 3000


def test_one_off_delivers_and_says_so(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    promised = {name: laws.put(os.fsencode(one.source) + b"/d/" + name, name) for name in KEPT_NAMES}
    result = site.one_off()
    assert result.returncode == 0, result
    laws.arrived(one, {b"d/" + name: content for name, content in promised.items()})
    assert laws.conserves(laws.snapshot(site, one))
    laws.no_leftovers(one)
    assert not os.listdir(one.source)
