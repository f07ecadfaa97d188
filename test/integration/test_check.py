"""`mistamover check`: what it finds, its exit status, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import laws
from integration.test_bridges import restricted
from integration.test_bridges import site_of as restricted_site
from integration.test_rsync_native import site_of
from mistamover.testing.rsyncd import PrivateRsyncd
from mistamover.testing.sshd import PrivateSshd
from support import free_port


def test_it_works_beside_a_running_service(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    with laws.lawful(site, one):
        laws.arrived(one, {b"before": laws.put(one.source / "before", b"1")})
        checked = site.ask("check", "one")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        for what in ("login", "rename", "flush", "hash", "resume", "directories", "removal", "round trip"):
            assert f": {what}: " in checked.stdout
        assert "write, rename and remove: works" in checked.stdout
        laws.arrived(one, {b"after": laws.put(one.source / "after", b"2")})
    assert sorted(os.listdir(one.target)) == ["after", "before"]


def test_it_finds_what_a_daemon_lacks(rsyncd: PrivateRsyncd, scratch: Path) -> None:
    site, one = site_of(
        scratch, rsyncd, "keeps", outgoing={"mirror_delete": True}, rsync_native={"transfer_mode": "mirror"}
    )
    checked = site.ask("check", "--json")
    assert checked.returncode == 1
    [target] = json.loads(checked.stdout)["targets"]
    assert (target["stream"], target["protocol"], target["well"]) == ("one", "rsync_native", False)
    [failed] = [finding for finding in target["findings"] if not finding["well"]]
    assert any("what a crash leaves there stays" in finding["words"] for finding in target["findings"])
    assert failed["what"] == "mirror_delete" and "set it to False" in failed["words"]
    assert os.listdir(one.target) == []


def test_it_says_what_to_do(rsyncd: PrivateRsyncd, scratch: Path) -> None:
    (scratch / "wrong").touch(mode=0o600)
    (scratch / "wrong").write_text("nothing\n")
    site, _ = site_of(scratch, rsyncd, rsync_native={"password_file": scratch / "wrong"})
    checked = site.ask("check")
    assert checked.returncode == 1 and "FAILED" in checked.stdout and "check username and password" in checked.stdout
    site.add(
        "one",
        outgoing={"transfer_protocol": "rsync_native", "target_host": f"127.0.0.1:{free_port()}", "target_dir": "m"},
    )
    checked = site.ask("check")
    assert checked.returncode == 1 and "is the port right?" in checked.stdout


def test_it_tells_a_restricted_key(sshd: PrivateSshd, scratch: Path) -> None:
    with restricted(scratch, ["-no-lock"]) as server:
        site, one = restricted_site(scratch, server)
        (one.target / ".stop").touch()
        checked = site.ask("check")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "whose login runs nothing but rsync" in checked.stdout
        assert "nothing is sent until it is removed" in checked.stdout
        assert os.listdir(one.target) == [".stop"]


def test_wrong_configuration(sshd: PrivateSshd, scratch: Path) -> None:
    site, _ = laws.make(scratch, sshd)
    site.add("one", outgoing={"transfer_protocol": "rsync_nativ"})
    assert site.ask("check").returncode == 2
    assert site.ask("check", "two").returncode == 2


def test_a_stream_that_sends_nothing(scratch: Path) -> None:
    site, _ = laws.make(scratch, None, outgoing={"transfer_protocol": "none"})  # type: ignore[arg-type]
    checked = site.ask("check")
    assert checked.returncode == 0 and "it sends nothing" in checked.stdout
