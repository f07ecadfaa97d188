"""Targets that misbehave: full, read-only, removed, replaced, unreachable, stopped; files wait, and then arrive."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, wait_until


@contextlib.contextmanager
def small_disk(where: Path, size: str) -> Iterator[None]:
    """Mount a small filesystem; skip where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", where], check=False, capture_output=True
    )
    if mount.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mount.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def drop(one: Stream, count: int, size: int = 100, prefix: str = "f") -> dict[bytes, str]:
    return {
        f"{prefix}{n}".encode(): laws.put(
            one.source / f"{prefix}{n}", b"%s%d" % (prefix.encode(), n) + os.urandom(size)
        )
        for n in range(count)
    }


def state(site: Site, one: Stream) -> str:
    return str(laws.snapshot(site, one).get("state"))


def unreachable(site: Site, one: Stream, words: str = "", timeout: float = 10) -> None:
    """Wait until the stream says that its target fails, for the reason given."""
    wait_until(
        lambda: state(site, one) == "UNREACHABLE" and words in str(laws.snapshot(site, one).get("hold")),
        timeout,
        f"UNREACHABLE because of {words!r}",
    )


def complete_only(one: Stream, promised: dict[bytes, str]) -> laws.Witness:
    """Watch every final name: it holds the whole content or is not there."""

    def look() -> Iterator[str]:
        for name, content in list(promised.items()):
            try:
                data = (os.fsencode(one.target) + b"/" + name).decode()
                with open(data, "rb") as file:
                    found = laws.digest(file.read())
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue
            if found != content:
                yield f"{name!r} is not complete"

    return laws.Witness(look)


@laws.BOTH_WAYS
def test_a_full_target_is_waited_for(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(scratch, sshd, everywhere=way)
    with small_disk(one.target, "8m"):
        (one.target / "ballast").write_bytes(b"b" * (6 << 20))
        promised = drop(one, 10, 400_000)
        with complete_only(one, promised) as witness, laws.lawful(site, one, timeout=15):
            wait_until(
                lambda: "space" in str(laws.snapshot(site, one).get("last_error")), 10, "status names the reason"
            )
            laws.somewhere(one, promised)
            assert site.status()["streams"][0]["quarantined"] == 0
            (one.target / "ballast").unlink()
            laws.arrived(one, promised, timeout=14)
            assert laws.settled(site, one)["quarantined"] == 0
        witness.swear()


def test_a_full_target_while_a_directory_unit_arrives(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, data_stream={"transfer_unit": "directory"})
    with small_disk(one.target, "4m"):
        promised = {f"u/{n}".encode(): laws.put(scratch / f"aside/{n}", os.urandom(1 << 20)) for n in range(4)}
        (one.target / "ballast").write_bytes(b"b" * (1 << 20))
        (scratch / "aside").rename(one.source / "u")
        with laws.lawful(site, one, timeout=15):
            unreachable(site, one, "space")
            assert not os.path.lexists(one.target / "u")
            (one.target / "ballast").unlink()
            subprocess.run(["mount", "-o", "remount,size=16m", one.target], check=True)
            laws.arrived(one, promised, timeout=14)


@laws.BOTH_WAYS
def test_a_read_only_target_is_waited_for(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(scratch, sshd, everywhere=way)
    with small_disk(one.target, "8m"), laws.lawful(site, one, timeout=15):
        laws.arrived(one, drop(one, 3))
        subprocess.run(["mount", "-o", "remount,ro", one.target], check=True)
        promised = drop(one, 5, prefix="later")
        unreachable(site, one, "ead-only")
        laws.somewhere(one, promised)
        subprocess.run(["mount", "-o", "remount,rw", one.target], check=True)
        laws.arrived(one, promised, timeout=14)
        assert laws.settled(site, one)["quarantined"] == 0


def test_an_immutable_target_directory_is_waited_for(sshd: PrivateSshd, scratch: Path) -> None:
    """Nothing can be made in the target directory itself, though our own place in it can be written."""
    if os.geteuid() != 0 or shutil.which("chattr") is None:
        pytest.skip("needs root and chattr(1)")
    site, one = laws.make(scratch, sshd)

    def chattr(sign: str) -> int:
        return subprocess.run(["chattr", f"{sign}i", one.target], check=False, capture_output=True).returncode

    with laws.lawful(site, one, timeout=15):
        laws.arrived(one, drop(one, 1))
        if chattr("+"):
            pytest.skip("this filesystem has no immutable directories")
        try:
            promised = drop(one, 5, prefix="later")
            wait_until(lambda: laws.snapshot(site, one).get("last_error"), 10, "an error is shown")
        finally:
            chattr("-")
        wait_until(lambda: laws.snapshot(site, one).get("waiting") == 0, 14, "all have ended")
        laws.somewhere(one, promised)


@laws.BOTH_WAYS
def test_target_directory_removed_while_running(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(scratch, sshd, everywhere=way)
    with laws.lawful(site, one):
        laws.arrived(one, drop(one, 3))
        shutil.rmtree(one.target)
        laws.arrived(one, drop(one, 20, prefix="later"))


@laws.BOTH_WAYS
def test_target_directory_removed_under_load(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    """What was removed here was at the target when it was removed, or is there now: files of after the removal."""
    site, one = laws.make(scratch, sshd, everywhere=way)
    with laws.lawful(site, one, timeout=15):
        drop(one, 400, prefix="early")
        wait_until(lambda: len(laws.public(one)) > 20, 10, "some have arrived")
        old = scratch / "remote/old"
        one.target.rename(old)
        later = drop(one, 100, prefix="later")
        wait_until(lambda: laws.snapshot(site, one).get("waiting") == 0 and not os.listdir(one.source), 14, "all gone")
        found = {**laws.contents(old), **laws.contents(one.target)}
        missing = [n for n in (*later, *(f"early{n}".encode() for n in range(400))) if n not in found]
        assert not missing, f"lost: {missing[:5]} of {len(missing)}"
        assert set(later) <= set(laws.contents(one.target)) | set(laws.contents(old))


@laws.BOTH_WAYS
def test_target_directory_replaced_while_idle(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(scratch, sshd, everywhere=way)
    with laws.lawful(site, one):
        laws.arrived(one, drop(one, 3))
        one.target.rename(scratch / "remote/old")
        one.target.mkdir()
        laws.arrived(one, drop(one, 3, prefix="later"))
    assert not any(name.startswith("later") for name in os.listdir(scratch / "remote/old"))


def test_a_wrong_key(sshd: PrivateSshd, scratch: Path) -> None:
    key = scratch / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    config = scratch / "ssh_config"
    config.write_text(sshd.ssh_config.read_text().replace(str(sshd.key), str(key)))
    site, one = laws.make(scratch, sshd, everywhere={"rsync_ssh": {"ssh_config": config}})
    promised = drop(one, 3)
    result = site.one_off()
    assert result.returncode == 1
    assert "Permission denied" in result.stderr + result.stdout
    with laws.lawful(site, one, timeout=15):
        unreachable(site, one, "authorized_keys")
        assert site.ask("status").returncode == 1
        laws.somewhere(one, promised)
        shutil.copy(sshd.ssh_config, config)
        laws.arrived(one, promised, timeout=14)


@laws.BOTH_WAYS
def test_host_down_then_back(private_sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(scratch, private_sshd, everywhere=way)
    with laws.lawful(site, one, timeout=15):
        laws.arrived(one, drop(one, 3))
        private_sshd.stop()
        promised = drop(one, 50, prefix="later")
        unreachable(site, one)
        laws.somewhere(one, promised)
        assert {reason["reason"] for reason in laws.snapshot(site, one)["undelivered"]} != {""}
        private_sshd.start()
        laws.arrived(one, promised, timeout=14)
        assert laws.settled(site, one)["quarantined"] == 0


def test_sessions_killed_again_and_again(private_sshd: PrivateSshd, scratch: Path) -> None:
    size = 200_000
    site, one = laws.make(scratch, private_sshd, everywhere=laws.slow({}, 20 * size, 2))
    promised: dict[bytes, str] = {}
    with complete_only(one, promised) as witness, laws.lawful(site, one, timeout=15):
        promised.update(drop(one, 20, size))
        for _ in range(3):
            wait_until(lambda: laws.half_sent(one), 10, "something is on its way")
            private_sshd.kill_sessions()
        laws.arrived(one, promised, timeout=14)
    witness.swear()


@laws.BOTH_WAYS
def test_paused_network(private_sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(scratch, private_sshd, everywhere=way)
    with laws.lawful(site, one, timeout=15):
        laws.arrived(one, drop(one, 3))
        private_sshd.pause()
        try:
            promised = drop(one, 30, prefix="later")
            wait_until(lambda: laws.snapshot(site, one).get("waiting") == 30, 10, "all wait")
            laws.somewhere(one, promised)
            assert not any(name.startswith(b"later") for name in laws.public(one))
        finally:
            private_sshd.resume()
        laws.arrived(one, promised)


def test_stopping_while_the_network_is_paused(private_sshd: PrivateSshd, scratch: Path) -> None:
    """SIGTERM is obeyed in time; after a restart all is delivered."""
    site, one = laws.make(scratch, private_sshd, everywhere={"global": {"stop_timeout": 1}})
    with site.running(stop=14) as agent:
        laws.arrived(one, drop(one, 3))
        private_sshd.pause()
        try:
            promised = drop(one, 30, prefix="later")
            wait_until(lambda: laws.snapshot(site, one).get("waiting") == 30, 10, "all wait")
            assert agent.stop(14) == 0
        finally:
            private_sshd.resume()
    laws.somewhere(one, promised)
    with laws.lawful(site, one):
        laws.arrived(one, promised)


@pytest.mark.parametrize("where", ["source", "target"])
def test_stop_file(sshd: PrivateSshd, scratch: Path, where: str) -> None:
    site, one = laws.make(scratch, sshd)
    directory = one.source if where == "source" else one.target
    with laws.lawful(site, one):
        laws.arrived(one, drop(one, 3))
        (directory / ".stop").touch()
        promised = drop(one, 10, prefix="later")
        wait_until(lambda: state(site, one) == "SUSPENDED", 10, "SUSPENDED")
        assert ".stop" in str(laws.snapshot(site, one)["hold"])
        assert not any(name.startswith(b"later") for name in laws.public(one))
        assert ".stop" in site.ask("why", str(one.source / "later1")).stdout
        laws.somewhere(one, promised)
        (directory / ".stop").unlink()
        laws.arrived(one, promised)


def test_one_off_with_a_stop_file_at_the_target(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    promised = drop(one, 2)
    (one.target / ".stop").touch()
    assert site.one_off().returncode == 1
    laws.somewhere(one, promised)
    assert set(os.listdir(one.source)) == {"f0", "f1"}


@pytest.mark.parametrize("retries", [0, 3])
@laws.BOTH_WAYS
def test_one_poisoned_file_delays_only_itself(sshd: PrivateSshd, scratch: Path, retries: int, way: laws.Way) -> None:
    site, one = laws.make(scratch, sshd, everywhere=way, outgoing={"retry_count": retries})
    laws.put(one.target / "f7/inside", b"in the way")
    promised = drop(one, 400)
    poison = promised.pop(b"f7")
    with complete_only(one, promised) as witness, laws.lawful(site, one, timeout=15):
        laws.arrived(one, promised)
        wait_until(lambda: laws.snapshot(site, one).get("quarantined") == 1, 14, "the poisoned one is in quarantine")
        laws.arrived(one, drop(one, 5, prefix="later"))
        assert laws.settled(site, one)["quarantined"] == 1
    witness.swear()
    laws.somewhere(one, {**promised, b"f7": poison})
    assert "could not make way" in (one.source / "quarantine/f7.reason").read_text()
    assert (one.target / "f7/inside").read_bytes() == b"in the way"


def test_a_comment_character_does_not_stop_the_stream(sshd: PrivateSshd, scratch: Path) -> None:
    """rsync passes over lines of its list that begin with # or ;."""
    site, one = laws.make(scratch, sshd)
    with laws.lawful(site, one, timeout=15):
        promised = {b"#a": laws.put(one.source / "#a", b"a"), b";b/c": laws.put(one.source / ";b/c", b"c")}
        laws.arrived(one, promised)
        laws.arrived(one, drop(one, 3))


def test_two_streams_do_not_disturb_each_other(private_sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, private_sshd)
    two = site.add("two", outgoing={"target_host": "127.0.0.1"}, rsync_ssh={"port": 1, "ssh_config": None})
    with site.running():
        waiting = drop(two, 3)
        thread = threading.Thread(target=drop, args=(one, 50))
        thread.start()
        thread.join()
        wait_until(lambda: not os.listdir(one.source), 10, "the healthy stream delivers")
        unreachable(site, two, "refused")
        laws.somewhere(two, waiting)
        assert laws.conserves(laws.of(site, one)) and laws.conserves(laws.of(site, two))
