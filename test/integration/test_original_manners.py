"""More defects that the original is known for, one test each: those of its speed, its safety and what it means."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import laws
from agents import agent_of, processes_of, rsyncs_of, stream_pid
from integration.test_handshake import Pair
from laws import make
from mistamover.testing.sshd import PrivateSshd
from receivers import Mailbox, mail_server, silent_server
from support import Site, Stream, free_port, wait_until, write_ini

EMAIL = {"from": "a@example.org", "recipient": "me@example.org", "threshold": "CRITICAL", "after": 0.5}


def moved(site: Site, one: Stream, names: list[bytes]) -> None:
    """Run once; all names must be at the target, and nothing here."""
    done = site.one_off()
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(laws.public(one)) == set(names)
    assert not laws.contents(one.source)


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


def test_each_item_costs_seconds_and_connections(private_sshd: PrivateSshd, scratch: Path) -> None:
    """More than six seconds and two connections for each of these it was."""
    site, one = make(scratch, private_sshd, data_stream={"rescan_interval": 3600})
    with agent_of(site) as agent:
        for number in range(200):
            laws.put(one.source / f"f{number}", b"x")
        wait_until(lambda: not laws.contents(one.source), 15, "all have gone")
        assert stream_pid(site, "one", agent.pid)
    assert private_sshd.log.read_text(errors="replace").count("Accepted publickey") <= 4


def test_each_receipt_costs_seconds_of_polling(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    with pair.monitor(), agent_of(pair.here):
        files = {f"f{number}": b"x%d" % number for number in range(200)}
        pair.drop(files)
        pair.arrived(files, timeout=15)


def test_nothing_is_noticed_before_the_next_scan(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, data_stream={"rescan_interval": 3600})
    site.write_global(**{"global": {"general_poll_interval": 60}})
    with agent_of(site):
        for number in range(3):
            laws.put(one.source / f"f{number}", b"x")
            wait_until(lambda number=number: not (one.source / f"f{number}").exists(), 10, "it has gone")


def test_everything_is_compressed(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, rsync_ssh={"bandwidth_limit": "2000"})
    with agent_of(site):
        laws.put(one.source / "f", b"x" * 8_000_000)
        wait_until(lambda: laws.half_sent(one), 10, "it is on its way")
        words = [word for process in rsyncs_of(site) for word in process.cmdline()]
        assert "--bwlimit" in " ".join(words)
        assert not [word for word in words if re.fullmatch(r"-[a-zA-Z]*z[a-zA-Z]*|--compress.*", word)]
        # Zeros in a second or less would have been compressed.
        wait_until(lambda: not (one.source / "f").exists(), 20, "it has gone")


def test_content_is_hashed_at_each_attempt(private_sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, private_sshd, outgoing={"target_uses_arrival_monitor": True})
    private_sshd.stop()
    with agent_of(site) as agent:
        laws.put(one.source / "f", b"x" * 20_000_000)
        process = psutil.Process(stream_pid(site, "one", agent.pid))
        wait_until(lambda: laws.of(site, one).get("state") == "UNREACHABLE", 15, "it is tried")
        for _ in range(3):
            before = laws.logs(site).count("refused")
            agent.reload()
            wait_until(lambda before=before: laws.logs(site).count("refused") > before, 15, "it is tried again")
        assert process.io_counters().read_chars < 20_000_000


def test_each_scan_asks_for_every_file(sshd: PrivateSshd, scratch: Path) -> None:
    """While nothing happens, nobody looks at the files that lie there."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace(1)")
    site, one = make(scratch, sshd, data_stream={"rescan_interval": 3600})
    for number in range(300):
        laws.put(one.source / f".f{number}", b"x")
    with agent_of(site) as agent:
        laws.put(one.source / "f", b"x")
        wait_until(lambda: not laws.contents(one.source).get(b"f"), 10, "it serves")
        words = ["strace", "-f", "-e", "trace=%file", "-p", str(stream_pid(site, "one", agent.pid))]
        with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as tracer:
            assert tracer.stderr is not None
            if b"attached" not in tracer.stderr.readline():
                tracer.kill()
                pytest.skip("processes cannot be traced here")
            time.sleep(2)  # several times the poll interval
            tracer.send_signal(2)
            said = tracer.stderr.read()
    assert said.count(b'".f') + said.count(b"/.f") < 10, said[:2000]


# -- safety -----------------------------------------------------------------------------------


def test_names_are_run_by_a_shell(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    names = [b"x;touch PWNED;y", b"$(touch PWNED)", b"`touch PWNED`", b"a b", b"a'b\"c", b"*", b"-rf", b"beside"]
    for name in names:
        laws.put(os.fsencode(one.source) + b"/" + name, b"content")
    moved(site, one, names)
    assert not list(scratch.rglob("PWNED"))
    assert not (Path.home() / "PWNED").exists()


def test_odd_names_are_never_moved(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    names = [b"new\nline", b"tab\t", b"\xff\xfe", b"back\\slash"]
    for name in names:
        laws.put(os.fsencode(one.source) + b"/" + name, b"content")
    moved(site, one, names)


def test_anybody_can_connect_to_the_log_server(sshd: PrivateSshd, scratch: Path) -> None:
    site, _ = make(scratch, sshd)
    site.write_global(logging={"port": 2000})
    with agent_of(site):
        for process in processes_of(site):
            listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert not listening


def test_a_newline_breaks_the_control_file(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    with pair.monitor():
        with agent_of(pair.here):
            laws.put(pair.one.source / "new\nline", b"content")
            laws.put(pair.one.source / "beside", b"content")
            wait_until(lambda: laws.contents(pair.data), 20, "the other one is delivered")
            wait_until(lambda: laws.of(pair.here, pair.one).get("in_quarantine"), 10, "it is set aside", every=0.2)
        pair.no_messages()
    assert set(laws.contents(pair.data)) == {b"beside"}
    assert (pair.one.source / "quarantine/new\nline").read_bytes() == b"content"


def test_passwords_are_seen_in_arguments_and_temporary_files(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd)
    login = scratch / "login"
    login.write_text("robot\nS3cretWord\n")
    login.chmod(0o600)
    temporary = scratch / "tmp"
    temporary.mkdir()
    with silent_server() as port:
        site.write_global(
            email={**EMAIL, "smarthost": f"127.0.0.1:{port}", "tls": "starttls", "login_file": login},
            data_stream={"symlinks": "quarantine"},
        )
        with agent_of(site, stop=10, env={**site.environment(), "TMPDIR": str(temporary)}):
            (one.source / "link").symlink_to("nowhere")
            wait_until(lambda: list((site.state / "alerts/mail").glob("*.json")), 15, "a mail waits")
            for process in processes_of(site):
                assert "S3cretWord" not in " ".join(process.cmdline()) + str(process.environ())
            written = [p for p in scratch.rglob("*") if p.is_file() and b"S3cretWord" in p.read_bytes()]
    assert written == [login]
    assert stat.S_IMODE((site.state / "streams/one").stat().st_mode) & 0o077 == 0


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


def test_failures_never_alert(scratch: Path) -> None:
    box, port = Mailbox(), free_port()
    site, one = make(scratch, None, rsync_ssh={"port": free_port()})  # type: ignore[arg-type]
    site.write_global(email={**EMAIL, "smarthost": f"127.0.0.1:{port}"})
    laws.put(one.source / "f", b"content")
    with mail_server(port, box), agent_of(site):
        wait_until(lambda: box.mails, 20, "it is told")
    assert "unreachable" in box.subjects[0]
    assert "one: f" in box.mails[0].get_content()


def test_transfer_mode_always_zip_and_transfer_unit_are_dead(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, sshd, outgoing={"transfer_mode": "mirror"})
    laws.put(one.source / "run/f", b"content")
    refused = site.one_off()
    assert refused.returncode == 2
    assert "transfer_mode" in refused.stderr
    site.add("one", data_stream={"transfer_unit": "directory"}, outgoing={"always_zip": True})
    moved(site, one, [b"run.zip"])
