"""Every defect that the original is known for, one test each: ours does not have it.

Most of these promises are tried much harder elsewhere; here they can be found by the name of the defect.  Those of the
handshake are in `test_handshake_old`.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import laws
from agents import agent_of, processes_of, stream_pid
from laws import make
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, wait_until, write_ini


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
    site, _ = make(scratch, sshd)
    with agent_of(site) as agent:
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
        wait_until(lambda: stream_pid(site, "s2", agent.pid) is None, 20, "it has ended")
        laws.put(streams[2].source / "f", b"x")
        wait_until(lambda: (streams[2].target / "f").exists(), 10, "the third one serves")
        assert stream_pid(site, "s1", agent.pid) is None


# -- speed ------------------------------------------------------------------------------------


def test_log_lines_grow_with_the_square_of_items(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    site.write_global(logging={"log_level": "INFO"})
    lines = []
    with agent_of(site):
        for number in range(4):
            for item in range(50):
                laws.put(one.source / f"{number}-{item}", b"x")
            wait_until(lambda: not laws.contents(one.source), 20, "all have gone")
            lines.append(laws.logs(site).count("\n"))
    # A line for each batch, and a batch may be one file.
    assert lines[3] - lines[0] <= 3 * 50 + 10


# -- safety -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [b"x;touch PWNED;y", b"$(touch PWNED)", b"`touch PWNED`", b"a b", b"a'b\"c", b"*", b"-rf"]
)
def test_names_are_run_by_a_shell(sshd: PrivateSshd, scratch: Path, name: bytes) -> None:
    site, one = make(scratch, sshd)
    laws.put(os.fsencode(one.source) + b"/" + name, b"content")
    laws.put(one.source / "beside", b"content")
    moved(site, one, [name, b"beside"])
    assert not list(scratch.rglob("PWNED"))
    assert not (Path.home() / "PWNED").exists()


@pytest.mark.parametrize("name", [b"new\nline", b"tab\t", b"\xff\xfe", b"back\\slash"])
def test_odd_names_are_never_moved(sshd: PrivateSshd, scratch: Path, name: bytes) -> None:
    site, one = make(scratch, sshd)
    laws.put(os.fsencode(one.source) + b"/" + name, b"content")
    moved(site, one, [name])


def test_anybody_can_connect_to_the_log_server(sshd: PrivateSshd, scratch: Path) -> None:
    site, _ = make(scratch, sshd)
    site.write_global(logging={"port": 2000})
    with agent_of(site):
        for process in processes_of(site):
            listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert not listening


def test_configuration_is_evaluated_as_python(sshd: PrivateSshd, scratch: Path) -> None:
    site, _ = make(scratch, sshd, outgoing={"target_dir": "{{eval:open('PWNED', 'w')}}"})
    done = site.one_off()
    assert done.returncode == 2
    assert "not evaluated" in done.stderr
    assert not list(scratch.rglob("PWNED"))


# -- semantics --------------------------------------------------------------------------------


def test_a_mirrored_directory_arrives_nested_in_itself(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, rsync_ssh={"transfer_mode": "mirror"}, data_stream={"transfer_unit": "directory"})
    laws.put(one.source / "d/f", b"content")
    assert site.one_off().returncode == 0
    assert set(laws.public(one)) == {b"d/f"}


def test_stopped_at_the_start_is_ignored(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, data_stream={"status": "STOPPED"})
    laws.put(one.source / "f", b"content")
    site.one_off()
    assert (one.source / "f").exists()
    assert not laws.public(one)


def test_a_stop_file_in_the_own_directory_is_ignored(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    with agent_of(site):
        (one.source / ".stop").touch()
        wait_until(lambda: laws.of(site, one).get("state") == "SUSPENDED", 10, "it says that it stops")
        laws.put(one.source / "f", b"content")
        time.sleep(1)
        assert (one.source / "f").exists()
        (one.source / ".stop").unlink()
        wait_until(lambda: not (one.source / "f").exists(), 10, "it goes on")


def test_what_is_quarantined_stays_where_it_is(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, data_stream={"symlinks": "quarantine"})
    (one.source / "link").symlink_to("x")
    site.one_off()
    assert (one.source / "quarantine/link").is_symlink()
    assert not (one.source / "link").is_symlink()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644])
def test_a_stream_file_must_have_one_mode(sshd: PrivateSshd, scratch: Path, mode: int) -> None:
    site, one = make(scratch, sshd)
    one.file.chmod(mode)
    laws.put(one.source / "f", b"content")
    moved(site, one, [b"f"])


def test_a_directory_of_stream_files_crashes_the_master(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    site.write_global(**{"global": {"data_stream_list": None, "config_dir": None, "data_stream_config_dir": site.conf}})
    site.global_ini.rename(scratch / "global.ini")
    site.global_ini = scratch / "global.ini"
    laws.put(one.source / "f", b"content")
    with agent_of(site) as agent:
        wait_until(lambda: not (one.source / "f").exists(), 10, "it is moved")
        agent.reload()
        laws.put(one.source / "g", b"content")
        wait_until(lambda: not (one.source / "g").exists(), 10, "it still is")


def test_the_command_line_is_not_the_documented_one(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    laws.put(one.source / "f", b"content")
    moved(site, one, [b"f"])  # --one-off, as documented
    assert site.run("--help").returncode == 0
    bin_directory = Path(__file__).parents[2] / "bin"
    here = subprocess.run(["./mistamover.py", "--help"], cwd=bin_directory, capture_output=True, check=False)
    assert here.returncode == 0


def test_errors_end_with_status_0(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    assert site.run(str(scratch / "none.ini")).returncode == 2
    write_ini(one.file, {"outgoing": {"retry_count": "many"}}, mode=0o400)
    done = site.one_off()
    assert done.returncode == 2
    assert "retry_count" in done.stderr


def test_it_prints_something_every_thirty_seconds(sshd: PrivateSshd, scratch: Path) -> None:
    site, _ = make(scratch, sshd)
    with agent_of(site) as agent:
        said = agent.said()
        time.sleep(2)  # some looks at the configuration
        assert agent.said() == said


def test_state_is_private(sshd: PrivateSshd, scratch: Path) -> None:
    """Passwords in temporary files that everybody may read: ours keeps nothing there, and its state is its own."""
    site, _ = make(scratch, sshd)
    with agent_of(site):
        assert stat.S_IMODE((site.state / "streams" / "one").stat().st_mode) & 0o077 == 0
