"""Every defect that the original is known for, one test each: ours does not have it.

Most of these promises are tried much harder elsewhere; here they can be found by the name of the defect: what loses
data and what stops for ever.  Speed, safety and meaning are in `test_original_manners`, the handshake in
`test_handshake_old` and `test_handshake`; `unit/test_original_rows` has the list of all.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import psutil
import pytest

import laws
from agents import agent_of, processes_of, stream_pid, words_of
from laws import make
from mistamover.testing.sshd import PrivateSshd
from receivers import Mailbox, mail_server, silent_server
from small_disks import mounted
from support import Site, Stream, free_port, wait_until
from unit.transport.peer import filesystem

ZIPS = {"data_stream": {"transfer_unit": "directory"}, "outgoing": {"always_zip": True}}


def moved(site: Site, one: Stream, names: list[bytes]) -> None:
    """Run once; all names must be at the target, and nothing here."""
    done = site.one_off()
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(laws.public(one)) == set(names)
    assert not laws.contents(one.source)


# -- data loss --------------------------------------------------------------------------------


def test_mirror_deletes_the_source(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, rsync_ssh={"transfer_mode": "mirror"})
    laws.put(one.source / "d/f", b"content")
    for _ in range(2):
        assert site.one_off().returncode == 0
        assert laws.contents(one.source) == laws.public(one) == {b"d/f": laws.digest(b"content")}


def test_size_only_leaves_a_stale_target(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, rsync_ssh={"check_size": True})
    laws.put(one.source / "f", b"new")
    laws.put(one.target / "f", b"old")
    moved(site, one, [b"f"])
    assert (one.target / "f").read_bytes() == b"new"


def test_a_slow_writer_is_sent_truncated_and_removed(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    with agent_of(site), open(one.source / "f", "wb", buffering=0) as writer:
        for number in range(5):
            writer.write(b"line %d\n" % number)
            time.sleep(0.5)  # longer than the settle time
        assert not (one.target / "f").exists()
        writer.close()
        wait_until(lambda: not (one.source / "f").exists(), 10, "it has gone")
    assert (one.target / "f").read_bytes() == b"".join(b"line %d\n" % number for number in range(5))


def test_what_is_appended_between_check_and_removal_is_lost(sshd: PrivateSshd, scratch: Path) -> None:
    """With a link that makes the send last: what comes meanwhile changes what is there, so it stays and goes again."""
    site, one = make(scratch, sshd, rsync_ssh={"bandwidth_limit": "2000"})
    with agent_of(site):
        laws.put(one.source / "f", b"x" * 4_000_000)
        wait_until(lambda: laws.half_sent(one), 10, "it is on its way")
        with open(one.source / "f", "ab") as more:
            more.write(b"more")
        wait_until(lambda: not (one.source / "f").exists(), 30, "it has gone")
    assert (one.target / "f").read_bytes() == b"x" * 4_000_000 + b"more"


def test_what_is_rewritten_during_a_push_is_removed_unseen(sshd: PrivateSshd, scratch: Path) -> None:
    """In place, and of the same size and time: only a look at the file after the push tells."""
    site, one = make(scratch, sshd, rsync_ssh={"bandwidth_limit": "2000"})
    with agent_of(site):
        laws.put(one.source / "f", b"x" * 4_000_000)
        before = (one.source / "f").stat().st_mtime_ns
        wait_until(lambda: laws.half_sent(one), 10, "it is on its way")
        with open(one.source / "f", "r+b") as file:
            file.write(b"y" * 1000)
        os.utime(one.source / "f", ns=(before, before))
        wait_until(lambda: not (one.source / "f").exists(), 30, "it has gone")
    assert (one.target / "f").read_bytes() == b"y" * 1000 + b"x" * 3_999_000


@laws.BOTH_WAYS
def test_nothing_is_flushed_before_the_source_goes(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    """The target's disk, as it is in the moment in which the source has gone, is looked at after a loss of power."""
    if shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:" + os.environ.get("PATH", "")) is None:
        pytest.skip("needs mkfs.ext4(8)")
    site, one = make(scratch, sshd, everywhere=way)
    disk, after = scratch / "disk", scratch / "after"
    with disk.open("wb") as image:
        image.truncate(16 << 20)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", disk], check=True, capture_output=True)
    # Nothing is written out by itself within the length of the test.
    with filesystem(one.target, "-o", "loop,commit=600", os.fspath(disk)), agent_of(site):
        laws.put(one.source / "d/f", b"content")
        wait_until(lambda: not (one.source / "d/f").exists(), 10, "it has gone", every=0.001)
        shutil.copyfile(disk, after)
    with filesystem(one.target, "-o", "loop", os.fspath(after)):
        assert (one.target / "d/f").read_bytes() == b"content"


def test_readers_at_the_target_see_half_a_file(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, rsync_ssh={"bandwidth_limit": "2000"})
    versions = (b"old" * 1000, b"x" * 4_000_000)
    laws.put(one.target / "f", versions[0])
    with laws.Witness(laws.only_versions(one.target / "f", *versions)) as witness:
        laws.put(one.source / "f", versions[1])
        moved(site, one, [b"f"])
    witness.swear()


def test_a_zip_drops_links_empty_directories_and_special_files(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, **ZIPS)
    laws.put(one.source / "run/d/f", b"content")
    (one.source / "run/empty").mkdir()
    (one.source / "run/d/f").chmod(0o640)
    for name, target in (("file", "d/f"), ("directory", "d"), ("dangling", "nowhere")):
        (one.source / "run" / name).symlink_to(target)
    laws.put(one.source / "odd/f", b"content")
    os.mkfifo(one.source / "odd/fifo")
    site.one_off()
    subprocess.run(["unzip", "-q", one.target / "run.zip"], cwd=scratch, check=True, timeout=10)
    assert {p.name for p in (scratch / "run").iterdir()} == {"d", "empty", "file", "directory", "dangling"}
    assert os.readlink(scratch / "run/dangling") == "nowhere"
    assert os.readlink(scratch / "run/directory") == "d"
    assert (scratch / "run/d/f").stat().st_mode & 0o777 == 0o640
    assert not (one.source / "run").exists()
    # What no zip can hold is not removed.
    assert (one.source / "odd/fifo").is_fifo()


def test_a_zip_overwrites_an_existing_one(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, **ZIPS)
    laws.put(one.source / "run/f", b"content")
    laws.put(one.source / "run.zip", b"beside it")
    laws.put(one.target / "run.1.zip", b"at the target")
    assert site.one_off().returncode == 0
    contents = {path.read_bytes() for path in one.target.iterdir()}
    assert {b"beside it", b"at the target"} < contents
    (ours,) = [path for path in one.target.iterdir() if zipfile.is_zipfile(path)]
    assert zipfile.ZipFile(ours).read("run/f") == b"content"


def test_a_directory_is_removed_before_its_zip_is_sent(scratch: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        site, one = make(scratch, None, rsync_ssh={"port": closed.getsockname()[1]}, **ZIPS)  # type: ignore[arg-type]
        laws.put(one.source / "run/f", b"content")
        assert site.one_off().returncode == 1
    assert laws.contents(one.source) == {b"run/f": laws.digest(b"content")}


# -- liveness ---------------------------------------------------------------------------------


def test_an_exit_makes_a_second_master(sshd: PrivateSshd, scratch: Path) -> None:
    site, _ = make(scratch, sshd)
    with agent_of(site) as agent:
        for _ in range(2):
            pid = wait_until(lambda: stream_pid(site, "one", agent.pid), 20, "the stream is up")
            os.kill(pid, 9)
            wait_until(lambda pid=pid: stream_pid(site, "one", agent.pid) not in (None, pid), 20, "it is up again")
        titles = [p.cmdline()[0] for p in psutil.Process(agent.pid).children() if p.cmdline()]
        assert titles.count("mistamover: stream one") == 1
        assert agent.stop(20) == 0, "a signal ends it"


def test_children_are_orphaned_when_the_master_dies(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    with agent_of(site) as agent:
        pid = stream_pid(site, "one", agent.pid)
        agent.reload()  # a SIGHUP does not end it
        wait_until(lambda: laws.of(site, one).get("state") == "IDLE", 10, "it goes on")
        assert agent.process.poll() is None
        assert stream_pid(site, "one", agent.pid) == pid
        os.kill(agent.pid, 9)
        wait_until(lambda: not processes_of(site), 20, "all have ended")


def test_a_failing_ssh_looks_like_a_stop_file(scratch: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        site, one = make(scratch, None, rsync_ssh={"port": closed.getsockname()[1]})  # type: ignore[arg-type]
        laws.put(one.source / "f", b"content")
        with agent_of(site):
            wait_until(lambda: laws.of(site, one).get("state") == "UNREACHABLE", 20, "it says so")
        assert "refused" in laws.logs(site)


def test_a_command_that_never_ends_blocks_for_ever(scratch: Path) -> None:
    with silent_server() as port:
        site, one = make(scratch, None, rsync_ssh={"port": port, "connect_timeout": 1})  # type: ignore[arg-type]
        laws.put(one.source / "f", b"content")
        with agent_of(site, stop=10):
            wait_until(lambda: laws.of(site, one).get("state") == "UNREACHABLE", 15, "it gives up for a while")


@pytest.mark.parametrize("hangs", [False, True])
def test_sending_an_alert_hangs_the_stream(scratch: Path, sshd: PrivateSshd, hangs: bool) -> None:
    """By a server that takes it, and by one that never says a word: the stream goes on, in the same process."""
    box, port = Mailbox(), free_port()
    site, one = make(scratch, sshd, data_stream={"symlinks": "quarantine"})
    email = {"from": "a@example.org", "recipient": "me@example.org", "threshold": "CRITICAL", "after": 0.5}
    with silent_server() as silent, mail_server(port, box):
        site.write_global(email={**email, "smarthost": f"127.0.0.1:{silent if hangs else port}"})
        with agent_of(site, stop=10) as agent:
            pid, before = stream_pid(site, "one", agent.pid), len(processes_of(site))
            (one.source / "link").symlink_to("nowhere")
            wait_until(lambda: box.mails or list((site.state / "alerts/mail").glob("*.json")), 15, "a mail is due")
            wait_until(lambda: hangs or box.mails, 15, "it is sent")
            laws.put(one.source / "f", b"content")
            wait_until(lambda: not (one.source / "f").exists(), 10, "the stream goes on")
            assert stream_pid(site, "one", agent.pid) == pid
            # The connection and what runs over it may have come since.
            ours = [words for words in words_of(site) if words[:1] and words[0].startswith("mistamover")]
            assert len(ours) <= before


def test_descriptors_leak_with_every_item(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    with agent_of(site) as agent:
        laws.put(one.source / "first", b"x")
        wait_until(lambda: not laws.contents(one.source), 10, "it has gone")
        process = psutil.Process(stream_pid(site, "one", agent.pid))
        before = process.num_fds()
        for number in range(3):
            for item in range(200):
                laws.put(one.source / f"{number}-{item}", b"x")
            wait_until(lambda: not laws.contents(one.source), 20, "all have gone")
        # A second lane, a receiver for it and a warm rsync may have been opened, once.
        wait_until(lambda: process.num_fds() <= before + 20, 10, "no descriptor for each file is left")


@pytest.mark.parametrize("target", ["nowhere", "/nowhere", "."])
def test_a_dangling_link_kills_the_stream(sshd: PrivateSshd, scratch: Path, target: str) -> None:
    site, one = make(scratch, sshd)
    with agent_of(site) as agent:
        pid = stream_pid(site, "one", agent.pid)
        (one.source / "link").symlink_to(target)
        laws.put(one.source / "f", b"x")
        wait_until(lambda: (one.target / "f").exists() and (one.target / "link").is_symlink(), 10, "both have gone")
        assert stream_pid(site, "one", agent.pid) == pid


def test_a_file_that_vanishes_kills_the_stream(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, data_stream={"rescan_interval": 0.1, "watch": "poll"})
    end = threading.Event()

    def come_and_go() -> None:
        while not end.is_set():
            for number in range(50):
                laws.put(one.source / f"d/v{number}", b"x")
            shutil.rmtree(one.source / "d", ignore_errors=True)

    with agent_of(site) as agent:
        pid = stream_pid(site, "one", agent.pid)
        thread = threading.Thread(target=come_and_go)
        thread.start()
        try:
            for number in range(5):
                laws.put(one.source / f"f{number}", b"x")
                wait_until(lambda number=number: not (one.source / f"f{number}").exists(), 20, "it has gone")
        finally:
            end.set()
            thread.join()
        assert stream_pid(site, "one", agent.pid) == pid


def test_one_slow_item_blocks_all_behind_it(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, rsync_ssh={"bandwidth_limit": "10000"})
    with agent_of(site):
        laws.put(one.source / "a", bytes(80 << 20))
        wait_until(lambda: laws.half_sent(one), 15, "the large one is on its way")
        for number in range(20):
            laws.put(one.source / f"b{number}", b"x")
        wait_until(lambda: not any(n.startswith(b"b") for n in laws.contents(one.source)), 6, "the others have gone")
        assert (one.source / "a").exists()
        wait_until(lambda: not (one.source / "a").exists(), 30, "and the large one as well")


def test_one_refused_item_blocks_all_behind_it(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    (one.target / "a").mkdir()
    laws.put(one.target / "a/in the way", b"x")
    with agent_of(site):
        laws.put(one.source / "a", b"cannot replace a directory")
        for number in range(20):
            laws.put(one.source / f"b{number}", b"x")
        wait_until(lambda: not any(n.startswith(b"b") for n in laws.contents(one.source)), 10, "the others have gone")


def test_a_stream_that_is_removed_makes_the_next_one_be_skipped(sshd: PrivateSshd, scratch: Path) -> None:
    site = Site(scratch, sshd)
    streams = [site.add(name, data_stream={"settle_time": 0.3}) for name in ("s1", "s2", "s3")]
    with agent_of(site) as agent:
        site.remove("s1")
        site.remove("s2")
        agent.reload()
        wait_until(lambda: not any(stream_pid(site, name, agent.pid) for name in ("s1", "s2")), 20, "it has ended")
        laws.put(streams[2].source / "f", b"x")
        wait_until(lambda: (streams[2].target / "f").exists(), 10, "the third one serves")
        assert stream_pid(site, "s1", agent.pid) is None


def test_a_stream_that_comes_later_has_no_disk_monitor(sshd: PrivateSshd, scratch: Path) -> None:
    site = Site(scratch, sshd, disk_space_monitor={"level_low": 8, "poll_interval": 0.2})
    site.add("one")
    with mounted(scratch / "incoming") as disk, agent_of(site) as agent:
        disk.leave(4)
        (scratch / "incoming/later").mkdir()
        site.add("later", data_stream={"directory": scratch / "incoming/later"})
        agent.reload()
        wait_until((scratch / "incoming/later/.stop").exists, 15, "its deliverers are asked to wait")
        assert not (scratch / "data/one/.stop").exists()
