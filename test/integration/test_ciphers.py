"""Which cipher a connection has, as the server's log shows it, and compression."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import laws
from mistamover.testing.sshd import PrivateSshd
from support import Site


@pytest.fixture
def talkative(scratch: Path) -> Iterator[PrivateSshd]:
    """A server whose log tells the ciphers."""
    with PrivateSshd(scratch / "sshd", options=["LogLevel DEBUG"]) as server:
        yield server


def deliver(scratch: Path, server: PrivateSshd, **rsync_ssh: object) -> Site:
    """Deliver small and large files by a stream with these settings; return the site."""
    site, one = laws.make(scratch, server, everywhere={"rsync_ssh": rsync_ssh})
    promised = {f"f{n}".encode(): laws.put(one.source / f"f{n}", os.urandom(100)) for n in range(3)}
    promised[b"large"] = laws.put(one.source / "large", os.urandom(3 << 20))
    promised[b"zeros"] = laws.put(one.source / "zeros", bytes(2 << 20))
    with laws.lawful(site, one):
        laws.arrived(one, promised)
    return site


def ciphers_of(server: PrivateSshd) -> set[str]:
    """Return the ciphers of all connections there were."""
    return set(re.findall(r"kex: client->server cipher: (\S+)", server.log.read_text(errors="replace")))


def test_without_any_wish_it_is_aes_gcm_where_the_processor_has_aes(talkative: PrivateSshd, scratch: Path) -> None:
    flags: Mapping[str, bool] = {"aes": " aes" in Path("/proc/cpuinfo").read_text()}
    deliver(scratch / "site", talkative)
    if not flags["aes"]:
        pytest.skip("this processor does no AES by itself")
    assert ciphers_of(talkative) == {"aes128-gcm@openssh.com"}


@pytest.mark.parametrize("where", ["Host *", "Match all"])
def test_what_the_user_configured_wins(talkative: PrivateSshd, scratch: Path, where: str) -> None:
    config = talkative.ssh_config
    config.write_text(f"{where}\n    Ciphers aes256-ctr,aes128-ctr\n" + config.read_text())
    deliver(scratch / "site", talkative)
    assert ciphers_of(talkative) == {"aes256-ctr"}


def test_what_the_stream_is_to_use_wins_over_all(talkative: PrivateSshd, scratch: Path) -> None:
    config = talkative.ssh_config
    config.write_text("Host *\n    Ciphers aes256-ctr\n" + config.read_text())
    deliver(scratch / "site", talkative, ciphers="aes192-ctr,aes256-ctr")
    assert ciphers_of(talkative) == {"aes192-ctr"}


def test_a_configuration_whose_name_cannot_be_included_is_used_as_it_is(talkative: PrivateSshd, scratch: Path) -> None:
    config = scratch / "with ~ and % [x]*"
    config.write_text(talkative.ssh_config.read_text())
    deliver(scratch / "site", talkative, ssh_config=config)
    assert ciphers_of(talkative)


def test_ciphers_that_ssh_does_not_know_are_an_error_with_a_reason(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, everywhere={"rsync_ssh": {"ciphers": "no-such-cipher"}})
    laws.put(one.source / "f", b"x")
    result = site.one_off()
    assert result.returncode != 0
    assert "cipher" in (result.stderr + result.stdout).lower()
    assert (one.source / "f").exists()


def test_compression_delivers(sshd: PrivateSshd, scratch: Path) -> None:
    site = deliver(scratch, sshd, compress=True)
    assert {record["algorithm"] for record in site.history()} == {"xxh128"}, "all of it by rsync"
