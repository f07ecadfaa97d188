"""The private sshd is what every test with a target stands on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from mistamover.testing.sshd import PrivateSshd
from support import wait_until


def run(server: PrivateSshd, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(server.ssh(*command), capture_output=True, text=True, timeout=20, check=False)


def held_session(server: PrivateSshd) -> subprocess.Popen[bytes]:
    """Return an ssh client whose session stands and waits for its input to end."""
    client = subprocess.Popen(server.ssh("echo ready; cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    return client


def end(client: subprocess.Popen[bytes]) -> int:
    client.kill()
    client.communicate(timeout=10)
    return client.wait(10)


def test_session_has_its_own_home_and_rsync(sshd: PrivateSshd) -> None:
    answer = run(sshd, "echo $HOME; rsync --version")
    home, version, *_ = answer.stdout.splitlines()
    assert Path(home) == sshd.home
    assert version.startswith("rsync")
    assert answer.stderr == ""


def test_sftp_and_rsync_reach_it_through_the_config_alone(sshd: PrivateSshd, scratch: Path) -> None:
    (scratch / "a file").write_bytes(b"x")
    argv = ["rsync", "-e", f"ssh -F {sshd.ssh_config}", str(scratch / "a file"), f"{sshd.host}:{scratch}/copy"]
    subprocess.run(argv, check=True, timeout=20)
    assert (scratch / "copy").read_bytes() == b"x"
    sftp = ["sftp", "-b", "-", "-F", str(sshd.ssh_config), sshd.host]
    listing = subprocess.run(sftp, input=f"ls -1 {scratch}\n", capture_output=True, text=True, timeout=20, check=True)
    assert "copy" in listing.stdout


def test_commands_over_a_kept_connection_are_fast(sshd: PrivateSshd, tmp_path_factory: pytest.TempPathFactory) -> None:
    control = tmp_path_factory.mktemp("c") / "s"
    options = ["-o", f"ControlPath={control}"]
    master = [*sshd.ssh()[:-1], *options, "-M", "-N", "-f", sshd.host]
    subprocess.run(master, check=True, timeout=20, stdin=subprocess.DEVNULL)
    try:
        kept, fresh = [*sshd.ssh()[:-1], *options, sshd.host, "true"], [*sshd.ssh()[:-1], sshd.host, "true"]
        times: list[tuple[float, float]] = []
        for _ in range(5):
            started = time.monotonic()
            subprocess.run(kept, check=True, timeout=20)
            between = time.monotonic()
            subprocess.run(fresh, check=True, timeout=20, stdin=subprocess.DEVNULL)
            times.append((between - started, time.monotonic() - between))
        assert min(kept for kept, _ in times) < min(fresh for _, fresh in times), times
    finally:
        subprocess.run(
            [*sshd.ssh()[:-1], *options, "-O", "exit", sshd.host], check=True, timeout=20, capture_output=True
        )


def test_restart_keeps_port_and_keys(private_sshd: PrivateSshd) -> None:
    port = private_sshd.port
    private_sshd.restart()
    assert private_sshd.port == port
    assert run(private_sshd, "echo again").stdout == "again\n"


def test_stop_refuses_connections_and_leaves_no_process(private_sshd: PrivateSshd) -> None:
    client = held_session(private_sshd)
    listener = psutil.Process(private_sshd.pid)
    everything = [listener, *listener.children(recursive=True)]
    private_sshd.stop()
    assert not any(process.is_running() for process in everything)
    assert run(private_sshd, "true").returncode == 255
    end(client)


def test_kill_sessions_cuts_connections_but_not_the_listener(private_sshd: PrivateSshd) -> None:
    client = held_session(private_sshd)
    assert private_sshd.kill_sessions() >= 1
    assert client.wait(10) == 255
    end(client)
    assert run(private_sshd, "true").returncode == 0


def test_pause_stalls_and_resume_goes_on(private_sshd: PrivateSshd) -> None:
    private_sshd.pause()
    client = subprocess.Popen(private_sshd.ssh("true"))
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(0.5)
    private_sshd.resume()
    assert client.wait(20) == 0


def test_further_options_come_first(tmp_path: Path) -> None:
    with PrivateSshd(tmp_path / "strict", options=["PermitTTY no", "ForceCommand echo forced"]) as server:
        assert run(server, "true").stdout == "forced\n"
        pid = server.pid
    wait_until(lambda: not psutil.pid_exists(pid), 10, "the listener is gone")
