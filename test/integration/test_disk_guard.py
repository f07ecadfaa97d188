"""The disk guard on real, small filesystems: by itself, and as a process of the agent."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import laws
from agents import agent_of, end_all, log_of
from mistamover.config.load import load
from mistamover.disk.guard import DiskGuard
from mistamover.disk.watch import Watch
from mistamover.files import stopfile
from mistamover.report import disks
from mistamover.testing.sshd import PrivateSshd
from receivers import Mailbox, mail_server
from small_disks import MIB, SmallDisk, mounted
from support import Agent, Site, Stream, contents, free_port, wait_until

LEVELS = {"level_good": 8, "level_low": 5, "level_vlow": 2, "poll_interval": 0.1}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small filesystem for the directories of the site's streams."""
    (tmp_path / "data").mkdir()
    with mounted(tmp_path / "data") as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, disk: SmallDisk, sshd: PrivateSshd) -> Iterator[Site]:
    """A site whose streams have their directories on the small filesystem, which is guarded."""
    made = Site(tmp_path, sshd, disk_space_monitor=LEVELS)
    yield made
    end_all(made)


def watch_of(site: Site) -> Watch:
    """Return what a guard of the site, as it is configured now, watches."""
    settings = load(site.global_ini, {})
    return Watch(disk=settings.disk, streams=settings.streams, state_dir=settings.state_dir)


def stopped(site: Site) -> set[str]:
    """Return the streams of the site in whose directory there is a stop file."""
    return {name for name, stream in site.streams.items() if os.path.lexists(stream.source / ".stop")}


def public(directory: Path) -> list[bytes]:
    """Return the files below a directory that are not the agent's own."""
    return [name for name in contents(directory) if not laws.ours(os.fsdecode(name))]


def guard_pid(agent: Agent) -> int | None:
    """Return the pid of the agent's disk guard, if there is one."""
    for process in psutil.Process(agent.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] == ["mistamover: disk"]:
                return process.pid
    return None


# -- the guard by itself ----------------------------------------------------------------------


def test_all_transitions_with_two_priorities(site: Site, disk: SmallDisk) -> None:
    site.add("low", data_stream={"priority": 100})
    site.add("high", data_stream={"priority": 101})
    guard = DiskGuard(watch_of(site))
    seen = []
    for free, level, waiting in [
        (12, "GOOD", set()),
        (6, "OKAY", set()),
        (4, "LOW", {"low"}),
        (6, "OKAY", {"low"}),
        (12, "GOOD", set()),
        (1, "VLOW", {"low", "high"}),
        (4, "LOW", {"low", "high"}),
        (6, "OKAY", {"low"}),
        (1, "VLOW", {"low", "high"}),
        (12, "GOOD", set()),
        (4, "LOW", {"low"}),
        (1, "VLOW", {"low", "high"}),
        (6, "OKAY", {"low"}),
        (4, "LOW", {"low"}),
        (9, "GOOD", set()),
    ]:
        disk.leave(free)
        (filesystem,) = guard.round().filesystems
        seen.append((free, filesystem.level, stopped(site)))
        assert seen[-1] == (free, level, waiting), seen
        assert (filesystem.mount, set(filesystem.stopped)) == (str(disk.path), waiting)


def test_incoming_and_data_on_two_filesystems(site: Site, disk: SmallDisk, tmp_path: Path) -> None:
    """What comes in needs room on both; the stop file is where others deliver."""
    incoming = tmp_path / "incoming/one"
    with mounted(tmp_path / "incoming") as other:
        incoming.mkdir()
        one = site.add("one", incoming={"require_arrival_monitor": True, "directory": incoming})
        guard = DiskGuard(watch_of(site))
        seen = []
        for data, came, waits in [(12, 12, False), (4, 12, True), (12, 4, True), (12, 12, False), (12, 4, True)]:
            disk.leave(data)
            other.leave(came)
            filesystems = guard.round().filesystems
            seen.append((data, came, (incoming / ".stop").exists()))
            assert seen[-1] == (data, came, waits), seen
            assert {each.mount for each in filesystems} == {str(disk.path), str(other.path)}
            assert {each.streams for each in filesystems} == {("one",)}
            assert not (one.source / ".stop").exists()
        # A guard after a crash knows both, and a filesystem that does not answer holds on to what it asked for.
        assert DiskGuard(watch_of(site)).round().filesystems[1].hold == "base"


def test_nothing_is_deleted_where_that_makes_no_room(site: Site, disk: SmallDisk, tmp_path: Path) -> None:
    one = mirror(site)
    with mounted(tmp_path / "incoming") as other:
        (tmp_path / "incoming/one").mkdir()
        site.add(
            "one",
            rsync_ssh={"transfer_mode": "mirror"},
            data_stream={"deletion_enabled": True},
            incoming={"require_arrival_monitor": True, "directory": tmp_path / "incoming/one"},
        )
        other.leave(0.5)
        levels = {each.mount: each.level for each in DiskGuard(watch_of(site)).round().filesystems}
        assert levels == {str(other.path): "VLOW", str(disk.path): "OKAY"}
        assert len(list(one.source.glob("sub*/*"))) == 8
        disk.leave(0.5)
        DiskGuard(watch_of(site)).round()
        assert len(list(one.source.glob("sub*/*"))) == 6


def test_inodes_count(site: Site, tmp_path: Path) -> None:
    site.add("one")
    with mounted(site.streams["one"].source, inodes=200) as small:
        guard = DiskGuard(watch_of(site))
        assert guard.round().filesystems[0].level == "GOOD"
        crowd = [small.path / f"f{number}" for number in range(195)]
        for path in crowd:
            path.touch()
        (filesystem,) = guard.round().filesystems
        assert (filesystem.level, filesystem.stopped) == ("LOW", ("one",))
        for path in crowd:
            path.unlink()
        assert guard.round().filesystems[0].stopped == ()


def test_without_inodes_there_is_no_stop_file_but_a_message(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    one = site.add("one")
    with mounted(one.source, inodes=50) as small:
        with contextlib.suppress(OSError):
            for number in range(100):
                (small.path / f"f{number}").touch()
        guard = DiskGuard(watch_of(site))
        assert any("cannot make the stop file" in words for words in guard.round().problems)
        guard.round()
        assert caplog.text.count("cannot make the stop file") == 1
        (small.path / "f1").unlink()
        (small.path / "f2").unlink()
        assert guard.round().filesystems[0].stopped == ("one",)


def test_a_disk_that_is_full_to_the_last_byte_takes_a_stop_file(site: Site, disk: SmallDisk) -> None:
    one = site.add("one")
    disk.leave(0)
    guard = DiskGuard(watch_of(site))
    guard.round()
    path = stopfile.of(one.source, ".stop")
    assert stopfile.is_of_guard(path)
    assert os.stat(path).st_size == 0
    disk.leave(12)
    guard.round()
    assert not stopped(site)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_operators_stop_file_stays(site: Site, disk: SmallDisk, when: str) -> None:
    one = site.add("one")
    if when == "before":
        (one.source / ".stop").write_text("mine")
    guard = DiskGuard(watch_of(site))
    disk.leave(1)
    guard.round()
    if when == "meanwhile":
        (one.source / ".stop").touch()
    for free in (6, 12):
        disk.leave(free)
        DiskGuard(watch_of(site)).round()
        guard.round()
        assert stopped(site) == {"one"}


def test_a_guard_after_a_crash_goes_on_where_the_other_was(site: Site, disk: SmallDisk) -> None:
    site.add("one")
    disk.leave(4)
    DiskGuard(watch_of(site)).round()
    disk.leave(6)
    DiskGuard(watch_of(site)).round()
    assert stopped(site) == {"one"}, "the hold is remembered below good"
    disk.leave(12)
    DiskGuard(watch_of(site)).round()
    assert not stopped(site)


@pytest.mark.parametrize("lost", ["everything", "content"])
def test_its_own_stop_files_are_known_without_its_records(site: Site, disk: SmallDisk, lost: str) -> None:
    site.add("one")
    disk.leave(4)
    DiskGuard(watch_of(site)).round()
    assert stopped(site) == {"one"}
    disk.leave(12)
    if lost == "everything":
        disks.forget(site.state)
    else:
        (site.state / "disks.json").write_text('{"filesystems": 3')
    DiskGuard(watch_of(site)).round()
    assert not stopped(site)


_DIE_AT = """
import os, sys
from pathlib import Path
from mistamover.config.load import load
from mistamover.disk.guard import DiskGuard
from mistamover.disk.watch import Watch
calls, last = 0, int(sys.argv[2])
def count(event, arguments):
    global calls
    ours = str(Path(sys.argv[1]).parent.parent) in str(arguments[:1])
    if ours and event in ("open", "os.rename", "os.link", "os.remove", "os.utime"):
        calls += 1
        if calls == last:
            os.kill(os.getpid(), 9)
settings = load(Path(sys.argv[1]), {})
guard = DiskGuard(Watch(disk=settings.disk, streams=settings.streams, state_dir=settings.state_dir))
sys.addaudithook(count)
guard.round()
"""


def test_killed_at_any_moment_it_leaves_nothing_that_stays(site: Site, disk: SmallDisk) -> None:
    """SIGKILL before each call that touches a file of the site, while stop files are made and while they go."""
    one, two = site.add("one"), site.add("two")
    killed = 0
    for free, wanted in [(4, {"one", "two"}), (12, set())]:
        for moment in range(1, 60):
            disk.leave(12 if wanted else 4)
            DiskGuard(watch_of(site)).round()
            disk.leave(free)
            words = [sys.executable, "-c", _DIE_AT, str(site.global_ini), str(moment)]
            status = subprocess.run(words, env=site.environment(), check=False, capture_output=True).returncode
            assert status in (0, -signal.SIGKILL)
            killed += status != 0
            DiskGuard(watch_of(site)).round()
            assert stopped(site) == wanted
            if status == 0:
                break
        else:
            pytest.fail("it was never let live")
    assert killed > 10
    disk.leave(12)
    DiskGuard(watch_of(site)).round()
    assert os.listdir(one.source) == os.listdir(two.source) == []


def test_a_stream_that_is_gone_is_let_go(site: Site, disk: SmallDisk) -> None:
    one, _ = site.add("one"), site.add("two")
    disk.leave(4)
    DiskGuard(watch_of(site)).round()
    site.remove("one")
    DiskGuard(watch_of(site)).round()
    assert not (one.source / ".stop").exists()
    assert stopped(site) == {"two"}


# -- deletion ---------------------------------------------------------------------------------


def mirror(site: Site, name: str = "one", **more: object) -> Stream:
    """Deliver eight files of 1 MiB by a mirror that allows deletion; return it."""
    stream = site.add(name, rsync_ssh={"transfer_mode": "mirror"}, data_stream={"deletion_enabled": True, **more})
    for number in range(8):
        path = stream.source / f"sub{number % 2}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(MIB))
        os.utime(path, (1000 + number, 1000 + number))
    assert site.one_off().returncode == 0
    assert len(contents(stream.target)) == 8
    return stream


def test_only_what_was_delivered_is_deleted_the_oldest_first(
    site: Site, disk: SmallDisk, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    one = mirror(site)
    (one.source / "sub0/f0").write_bytes(os.urandom(MIB))
    os.utime(one.source / "sub0/f0", (1000, 1000))
    (one.source / "undelivered").write_bytes(bytes(MIB))
    os.link(one.source / "sub0/f2", disk.path / "other-name")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f5").write_bytes(b"precious")
    (one.source / "sub1").rename(disk.path / "moved")
    (one.source / "sub1").symlink_to(outside)
    at_target = contents(one.target)
    disk.leave(0.5)
    (filesystem,) = DiskGuard(watch_of(site)).round().filesystems
    assert filesystem.level == "LOW"
    # f1, f3, f5 and f7 are behind a link, f0 has changed, f2 has another name: f4 and f6 are left.
    assert sorted(os.listdir(one.source / "sub0")) == ["f0", "f2"]
    assert (one.source / "undelivered").exists()
    assert (outside / "f5").read_bytes() == b"precious"
    assert len(os.listdir(disk.path / "moved")) == 4
    (message,) = [r for r in caplog.records if "deleted" in r.getMessage()]
    assert message.levelname == "ERROR"
    assert re.search(r"deleted 2 files: .*/f4, .*/f6$", message.getMessage())
    assert contents(one.target) == at_target


def test_no_more_is_deleted_than_is_needed(site: Site, disk: SmallDisk) -> None:
    one = mirror(site)
    disk.leave(0.5)
    (filesystem,) = DiskGuard(watch_of(site)).round().filesystems
    assert (filesystem.level, filesystem.hold) == ("LOW", "base")
    left = sorted(path.name for path in one.source.glob("sub*/*"))
    assert left == ["f2", "f3", "f4", "f5", "f6", "f7"]


def test_what_somebody_writes_to_stays(site: Site, disk: SmallDisk) -> None:
    one = mirror(site)
    with (one.source / "sub0/f0").open("r+b"):
        disk.leave(0.5)
        DiskGuard(watch_of(site)).round()
    assert (one.source / "sub0/f0").exists()
    assert not (one.source / "sub1/f1").exists()


def test_the_least_important_stream_gives_way_first(site: Site, disk: SmallDisk) -> None:
    high, low = mirror(site, "a", priority=90), mirror(site, "b", priority=80)
    disk.leave(0.5)
    DiskGuard(watch_of(site)).round()
    assert len(contents(high.source)) - (high.source / ".stop").exists() == 8
    assert len(contents(low.source)) - (low.source / ".stop").exists() == 6


@pytest.mark.parametrize(
    "settings",
    [{"deletion_enabled": False}, {"priority": 101}],
    ids=["not allowed", "too important"],
)
def test_what_is_not_allowed_is_not_done(site: Site, disk: SmallDisk, settings: dict[str, object]) -> None:
    one = mirror(site, **settings)
    disk.leave(0.5)
    (filesystem,) = DiskGuard(watch_of(site)).round().filesystems
    assert (filesystem.level, filesystem.hold) == ("VLOW", "all")
    assert len(list(one.source.glob("sub*/*"))) == 8


@pytest.mark.parametrize("allowed", [False, True])
def test_what_was_not_delivered_is_deleted_only_if_that_is_said_in_words(
    site: Site, disk: SmallDisk, allowed: bool
) -> None:
    one = site.add("one", data_stream={"deletion_enabled": True})
    site.write_global(disk_space_monitor={"delete_undelivered": allowed})
    (one.source / "older").write_bytes(bytes(MIB))
    (one.source / "quarantine").mkdir()
    (one.source / "quarantine/newer").write_bytes(bytes(2 * MIB))
    (one.source / ".hidden").write_bytes(bytes(MIB))
    disk.leave(0.5)
    (filesystem,) = DiskGuard(watch_of(site)).round().filesystems
    assert filesystem.level == ("LOW" if allowed else "VLOW")
    assert (one.source / "quarantine/newer").exists() is not allowed
    assert (one.source / "older").exists()
    assert (one.source / ".hidden").exists()


def test_an_older_version_at_the_target_outlives_what_was_not_delivered(site: Site, disk: SmallDisk) -> None:
    one = mirror(site)
    site.write_global(disk_space_monitor={"delete_undelivered": True})
    for path in one.source.glob("sub*/*"):
        path.write_bytes(os.urandom(MIB))
    disk.leave(0.5)
    DiskGuard(watch_of(site)).round()
    assert len(list(one.source.glob("sub*/*"))) == 6
    disk.leave(6)
    site.write_global(disk_space_monitor={"delete_undelivered": False})
    site.add("one", rsync_ssh={"transfer_mode": "mirror"}, outgoing={"mirror_delete": True})
    assert site.one_off().returncode == 0
    assert len(contents(one.target)) == 8


def test_what_was_deleted_is_not_removed_at_the_target_by_a_mirror_that_is_told_to_later(
    site: Site, disk: SmallDisk
) -> None:
    one = mirror(site)
    disk.leave(0.5)
    DiskGuard(watch_of(site)).round()
    disk.leave(6)
    sections = {"rsync_ssh": {"transfer_mode": "mirror"}, "outgoing": {"mirror_delete": True}}
    site.add("one", **sections)
    (one.source / "sub1/f7").unlink()
    assert site.one_off().returncode == 0
    assert sorted(name.rpartition(b"/")[2] for name in contents(one.target)) == [b"f%d" % n for n in range(7)]


# -- as a process of the agent ----------------------------------------------------------------


def test_fill_hold_free_resume_and_nothing_is_lost(site: Site, disk: SmallDisk) -> None:
    """Stream `near` delivers into the directory of stream `far`, which is on the small disk and cannot send."""
    far = site.add("far")
    near_source = site.directory / "near"
    near_source.mkdir()
    near = site.add("near", data_stream={"directory": near_source}, outgoing={"target_dir": far.source})
    near = near._replace(source=near_source)
    (far.target / ".stop").touch()
    promised: dict[bytes, str | bytes] = {}
    guards = stopfile.of(far.source, ".stop")
    with agent_of(site) as agent:
        wait_until(lambda: guard_pid(agent), 10, "the guard runs")
        for number in range(400):
            data = os.urandom(64 * 1024)
            promised[b"f%d" % number] = laws.put(near.source / f"f{number}", data)
        wait_until(lambda: stopfile.is_of_guard(guards), 30, "arrivals are stopped")
        wait_until(lambda: laws.snapshot(site, near).get("hold"), 30, "the sender waits")
        assert contents(near.source), "there is more than the disk holds"
        pid = guard_pid(agent)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: guard_pid(agent) not in (None, pid), 15, "another guard runs")
        assert stopfile.is_of_guard(guards)
        # The far stream has the guard's stop file in its own directory, and makes room all the same.
        (far.target / ".stop").unlink()
        wait_until(lambda: set(contents(far.target)) >= set(promised), 90, "everything has arrived")
        assert {n: c for n, c in contents(far.target).items() if n in promised} == promised
        wait_until(lambda: not public(near.source) and not public(far.source), 20, "all is clear")
        assert agent.stop() == 0
    assert "Traceback" not in laws.logs(site)


def test_a_full_disk_is_one_mail_and_its_end_another(site: Site, disk: SmallDisk) -> None:
    box, port = Mailbox(), free_port()
    email = {"recipient": "me@example.org", "from": "a@example.org", "smarthost": f"127.0.0.1:{port}", "after": 1}
    site.write_global(email={**email, "threshold": "CRITICAL"})
    one = site.add("one")
    with mail_server(port, box), agent_of(site) as agent:
        wait_until(lambda: guard_pid(agent), 20, "the guard runs")
        disk.leave(4)
        wait_until(lambda: stopped(site) == {"one"}, 20, "arrivals are stopped")
        wait_until(lambda: len(box.mails) == 1, 20, "it is told")
        disk.leave(12)
        wait_until(lambda: not stopped(site), 20, "arrivals go on")
        wait_until(lambda: len(box.mails) == 2, 20, "that it is over is told")
    opened, closed = box.mails
    mount = os.path.realpath(one.source.parent)
    assert f"disk: {mount}" in opened["Subject"]
    assert "Streams: one" in opened.get_content()
    assert f"over: disk: {mount}" in closed["Subject"]


def test_changes_of_the_configuration_are_followed(site: Site, disk: SmallDisk) -> None:
    site.add("one")
    with agent_of(site) as agent:
        disk.leave(4)
        wait_until(lambda: stopped(site) == {"one"}, 10, "the first is held")
        site.add("two")
        wait_until(lambda: stopped(site) == {"one", "two"}, 15, "a stream that came later is held as well")
        assert "LOW" in site.ask("status").stdout
        (filesystem,) = site.status()["disks"]["filesystems"]
        assert (filesystem["level"], set(filesystem["stopped"])) == ("LOW", {"one", "two"})
        site.write_global(disk_space_monitor={"level_low": 3, "level_good": 3})
        wait_until(lambda: not stopped(site), 15, "a lower threshold lets both go")
        site.write_global(disk_space_monitor={"level_low": 5, "level_good": 8})
        wait_until(lambda: stopped(site) == {"one", "two"}, 15, "they are held again")
        site.write_global(disk_space_monitor={"level_low": None, "level_good": None, "level_vlow": None})
        wait_until(lambda: not stopped(site), 15, "without a threshold nobody is held")
        wait_until(lambda: guard_pid(agent) is None, 15, "and no guard runs")
        assert site.status()["disks"] is None
    assert "the disk guard ended" not in log_of(site, "mistamover_ctl")


def test_a_stop_of_the_service_leaves_the_hold_and_a_start_takes_it_up(site: Site, disk: SmallDisk) -> None:
    site.add("one")
    disk.leave(4)
    with agent_of(site):
        wait_until(lambda: stopped(site) == {"one"}, 10, "it is held")
    assert stopped(site) == {"one"}
    assert "nobody watches" in site.ask("status").stdout
    disk.leave(12)
    with agent_of(site):
        wait_until(lambda: not stopped(site), 10, "it is let go")


def test_a_site_without_thresholds_has_no_guard(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd)
    site.add("one")
    with agent_of(site) as agent:
        assert guard_pid(agent) is None
        assert site.status()["disks"] is None
    assert not (site.state / "disks.json").exists()


# -- the disk of the target -------------------------------------------------------------------


@laws.BOTH_WAYS
@pytest.mark.parametrize(("reserve", "free"), [(0, 0), (0, 0.4), (6, 4)])
def test_a_target_without_room_is_waited_for(
    tmp_path: Path, sshd: PrivateSshd, reserve: int, free: float, way: laws.Way
) -> None:
    (tmp_path / "remote").mkdir()
    with mounted(tmp_path / "remote") as disk:
        site, one = laws.make(tmp_path, sshd, everywhere=way, outgoing={"target_reserve": reserve, "retry_count": 1})
        disk.leave(free)
        with laws.lawful(site, one, timeout=20):
            promised = {b"f%d" % n: laws.put(one.source / f"f{n}", os.urandom(100_000)) for n in range(10)}
            wait_until(lambda: laws.snapshot(site, one).get("state") == "UNREACHABLE", 20, "it waits for the target")
            laws.somewhere(one, promised)
            assert laws.snapshot(site, one)["quarantined"] == 0
            if reserve:
                assert "target_reserve" in str(laws.snapshot(site, one)["hold"])
                assert not laws.public(one)
            disk.leave(10)
            laws.arrived(one, promised, timeout=60)
