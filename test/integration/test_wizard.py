"""`mistamover init`, answered on a terminal; what it writes is then used as it is."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mistamover.cli import init_questions
from mistamover.cli.init_try import try_login
from mistamover.config.load import load
from mistamover.errors import LinkError
from mistamover.testing.ftpd import PASSWORD, USER
from mistamover.testing.sshd import PrivateSshd
from support import TOP, Site, contents, wait_until
from terminals import Terminal

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CONFIG__", "MISTAMOVER"))}
ENVIRONMENT["PYTHONPATH"] = str(TOP / "lib")


def agent(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mistamover", *words]
    return subprocess.run(
        argv, cwd=place, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def wizard(place: Path, *words: str) -> Terminal:
    return Terminal([sys.executable, "-m", "mistamover", "init", *words], cwd=place, env=ENVIRONMENT)


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}


def test_answers_become_a_configuration_that_delivers(scratch: Path, sshd: PrivateSshd) -> None:
    (scratch / "far").mkdir()
    (scratch / "file").touch()
    with wizard(scratch, "--set", f"rsync_ssh.ssh_config={sshd.ssh_config}") as terminal:
        terminal.answer("[data_stream] name: ", "my outputs")
        assert "cannot be used, expected at most 100 letters" in terminal.answer("[data_stream] name: ", "outputs")
        terminal.answer(f"[data_stream] directory [{scratch}/data/outputs]: ", "")
        terminal.answer("transfer_protocol [rsync_ssh]: ", "rsync")
        assert 'did you mean "rsync_ssh"?' in terminal.answer("transfer_protocol [rsync_ssh]: ", "")
        terminal.answer("target_host: ", f"me@{sshd.host}")
        assert "a login name goes into the key username" in terminal.answer("target_host: ", sshd.host)
        terminal.answer("target_dir: ", "")
        assert "is not set, expected the directory on the target host" in terminal.answer(
            "target_dir: ", f"{scratch}/file/far"
        )
        terminal.answer("username [what the ssh configuration says]: ", "")
        terminal.answer("transfer_mode [move]: ", "copy")
        assert "expected one of move, mirror" in terminal.answer("transfer_mode [move]: ", "")
        terminal.answer("recipient [no mail is sent]: ", "")
        # The login works, the directory is not there.
        assert "file/far" in terminal.answer("[correct]: ", "")
        terminal.answer("target_host [127.0.0.1]: ", "")
        terminal.answer(f"target_dir [{scratch}/file/far]: ", f"{scratch}/far")
        terminal.answer("username [what the ssh configuration says]: ", "")
        terminal.answer("transfer_mode [move]: ", "")
        assert "It works: rsync over one ssh connection" in terminal.answer("(yes/no) [yes]: ", "")
        assert files(scratch) == {"file"}
        terminal.answer("(yes/no) [yes]: ", "y")
        terminal.until(f"mistamover --one-off {scratch}/conf/global.ini")
        assert terminal.ended() == 0
    assert files(scratch) == {"conf/global.ini", "conf/ds_outputs.ini", "file"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (scratch / "conf").iterdir()} == {0o600}
    (scratch / "data/outputs/first").write_text("hello")
    done = agent(scratch, "--one-off")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(contents(scratch / "far")) == [b"first"] and not contents(scratch / "data/outputs")


def test_a_stream_that_receives_gets_a_monitor(scratch: Path) -> None:
    with wizard(scratch, "--type", "arrival_monitor", "inbox", "--set", "global.general_poll_interval=0.3") as terminal:
        terminal.answer("[data_stream] directory", "")
        terminal.answer(f"[incoming] directory [{scratch}/incoming/inbox]: ", f"{scratch}/data/inbox/in")
        assert "lie in one another" in terminal.answer("[incoming] directory", "")
        terminal.answer("recipient", "me@example.org")
        terminal.answer("(yes/no)", "")
        terminal.answer("(yes/no)", "")
        assert terminal.ended() == 0
    settings = load(scratch / "conf/global.ini", {})
    (stream,) = settings.streams
    assert stream.monitor is not None and stream.monitor.directory == scratch / "incoming/inbox"
    assert settings.alerts is not None and stream.directory.is_dir() and stream.monitor.directory.is_dir()
    argv = [sys.executable, "-m", "mistamover"]
    with subprocess.Popen(argv, cwd=scratch, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        try:
            # A second stream that sends nothing is taken up while the service runs.
            added = agent(scratch, "init", "--yes", "--type", "none", "quiet", "--json")
            assert (added.returncode, json.loads(added.stdout)["edited"]) == (0, [str(scratch / "conf/global.ini")])

            def told() -> bool:
                status = json.loads(agent(scratch, "status", "--json").stdout or "{}")
                return {each["name"] for each in status.get("streams", ())} == {"inbox", "quiet"}

            wait_until(told, 20, "both streams are known", every=0.2)
            wait_until(lambda: list(scratch.glob("log/*inbox*")), 20, "the monitor runs")
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_who_breaks_off_leaves_nothing(scratch: Path, key: bytes) -> None:
    with wizard(scratch, "--name", "one", "--protocol", "none") as terminal:
        terminal.answer("[data_stream] directory", "")
        terminal.answer("recipient", "")
        terminal.until("(yes/no)")
        terminal.key(key)
        assert terminal.ended() == (130 if key == b"\x03" else 1)
        assert "nothing was written" in terminal.shown
    assert not list(scratch.iterdir())


def test_a_login_that_fails_writes_nothing_unless_it_is_wanted(scratch: Path, sshd: PrivateSshd) -> None:
    words = [
        *("init", "--yes", "--json", "--name", "one", "--target-host", sshd.host, "--username", sshd.user),
        *("--target-dir", f"{scratch}/far", "--mode", "mirror", "--set", f"rsync_ssh.ssh_config={sshd.ssh_config}"),
    ]
    (scratch / "far").touch()
    failed = agent(scratch, *words)
    assert failed.returncode == 1 and f"{scratch}/far" in failed.stderr and "--no-check" in failed.stderr
    assert files(scratch) == {"far"} and not (scratch / "data").exists()
    (scratch / "far").unlink()
    assert agent(scratch, *words, "--no-check").returncode == 0
    again = agent(scratch, *words)
    assert again.returncode == 2 and 'there is a stream "one" already' in again.stderr
    (scratch / "far").mkdir()
    (scratch / "data/one/first").write_text("hello")
    assert agent(scratch, "--one-off").returncode == 0
    assert contents(scratch / "far") == contents(scratch / "data/one")


@pytest.mark.skipif("ftp" not in init_questions.ways(), reason="this version does not speak FTP")
@pytest.mark.parametrize("password", ['hush "# it', ""])
def test_a_password_is_asked_without_being_shown(scratch: Path, password: str) -> None:
    known = ("--name", "one", "--directory", "here", "--target-host", "127.0.0.1", "--target-dir", "x", "--no-check")
    with wizard(scratch, *known, "--protocol", "ftp") as terminal:
        # Who has no name needs no password.
        terminal.answer("[ftp] username", "me" if password else "")
        if password:
            terminal.answer("[ftp] password: ", password)
        terminal.answer("[ftp] transfer_mode", "")
        terminal.answer("recipient", "")
        terminal.answer("(yes/no)", "")
        terminal.answer("(yes/no)", "")
        assert terminal.ended() == 0
        assert ("hush" not in terminal.shown and "[ftp] password = (not shown)" in terminal.shown) or not password
    (stream,) = load(scratch / "conf/global.ini", {}).streams
    assert stream.directory == scratch / "here"
    assert ("hush" in (scratch / "conf/ds_one.ini").read_text()) is bool(password)


@pytest.mark.skipif("local" not in init_questions.ways(), reason="this version has no local targets")
def test_a_local_target_is_tried_and_used(scratch: Path) -> None:
    words = ("--name", "one", "--protocol", "local", "--target-dir", f"{scratch}/far")
    (scratch / "far").mkdir()
    done = agent(scratch, "init", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["login"]["tried"] and not contents(scratch / "far")
    (scratch / "data/one/first").write_text("hello")
    assert agent(scratch, "--one-off").returncode == 0
    assert list(contents(scratch / "far")) == [b"first"]


def test_a_login_that_hangs_is_given_up(scratch: Path, private_sshd: PrivateSshd) -> None:
    site = Site(scratch, private_sshd)
    site.add("one")
    (stream,) = load(site.global_ini, {}).streams
    assert len(try_login(stream)) == 1 and not contents(site.streams["one"].target)
    private_sshd.pause()
    try:
        with pytest.raises(LinkError, match="gave no answer within 1 s"):
            try_login(stream, patience=1)
    finally:
        private_sshd.resume()
    assert not stream.state_dir.exists()


def answers_for(
    protocol: str, scratch: Path, request: pytest.FixtureRequest
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return what is set beforehand, for a server that is not where such servers are, and the questions and answers."""
    far = str(scratch / "far")
    mode = (f"[{protocol}] transfer_mode [move]: ", "")
    if protocol == "sftp":
        server = request.getfixturevalue("sftp_only")
        place = [("target_host: ", server.host), ("target_dir: ", far), ("username [", "")]
        return [f"sftp.ssh_config={server.ssh_config}"], [*place, mode]
    if protocol in ("ftp", "ftps"):
        server = request.getfixturevalue("ftpd" if protocol == "ftp" else "ftpsd")
        more = [f"ftps.ca_file={server.certificate}"] if protocol == "ftps" else []
        login = [("username", USER), ("password: ", PASSWORD)]
        place = [("target_host: ", server.host), ("target_dir: ", far), *login]
        return [f"{protocol}.port={server.port}", *more], [*place, mode]
    if protocol == "rsync_native":
        server = request.getfixturevalue("rsyncd")
        login = [("[rsync_native] username", server.user), ("[rsync_native] password: ", server.password)]
        return [], [("target_host: ", server.address), ("target_dir: ", server.place(scratch / "far")), *login, mode]
    if protocol == "s3":
        store = request.getfixturevalue("s3")
        bucket = store.bucket("of-the-wizard")
        secrets = [("endpoint_url", store.url), ("secret_file", str(store.secret_file))]
        return [], [("target_url: ", f"s3://{bucket.name}/far"), *secrets, mode]
    if protocol == "url":
        return [], [("target_url: ", f"file://{far}"), ("options_file", ""), mode]
    return [], [("target_dir: ", far), mode]


@pytest.mark.parametrize("protocol", ["sftp", "ftp", "ftps", "rsync_native", "local", "s3", "url"])
def test_every_protocol_is_asked_for_tried_and_used(
    scratch: Path, protocol: str, request: pytest.FixtureRequest
) -> None:
    (scratch / "far").mkdir()
    before, answers = answers_for(protocol, scratch, request)
    words = [word for setting in before for word in ("--set", setting)]
    with wizard(scratch, "--name", "one", "--protocol", protocol, *words) as terminal:
        terminal.answer("[data_stream] directory", "")
        for question, answer in answers:
            terminal.answer(question, answer)
        terminal.answer("recipient", "")
        # The directory is made, and all is written.
        for _ in range(2):
            terminal.answer("(yes/no)", "")
        assert terminal.ended() == 0
        assert "It works" in terminal.shown
    (scratch / "data/one/first").write_text("hello")
    done = agent(scratch, "--one-off")
    assert (done.returncode, done.stderr) == (0, "")
    assert not contents(scratch / "data/one")
    if protocol == "s3":
        assert request.getfixturevalue("s3").bucket("of-the-wizard").contents() == {b"far/first": b"hello"}
    else:
        assert (scratch / "far/first").read_text() == "hello"
