"""How to get in by sftp, ftp and ftps: what is said, what is meant where nothing is, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config.access import FtpAccess, Tls
from mistamover.config.settings import StreamSettings, TransferMode, TransferUnit
from mistamover.errors import ConfigError
from unit.config.sites import Site


def loaded(site: Site, text: str, protocol: str, host: str = "localhost") -> tuple[StreamSettings, tuple[str, ...]]:
    outgoing = f"[outgoing]\ntransfer_protocol = {protocol}\ntarget_host = {host}\ntarget_dir = /in\n"
    site.write("ds_one.ini", f"{outgoing}{text}")
    settings = site.load()
    return settings.streams[0], settings.warnings


def access(site: Site, text: str, protocol: str) -> FtpAccess:
    stream, warnings = loaded(site, text, protocol)
    assert warnings == ()
    found = stream.targets[0].access
    assert isinstance(found, FtpAccess)
    return found


def test_what_is_not_said(site: Site) -> None:
    expected = FtpAccess(
        port=21,
        tls=Tls.NONE,
        ca_file=None,
        username="anonymous",
        password=None,
        password_file=None,
        passive=True,
        connect_timeout=15,
    )
    assert access(site, "", "ftp") == expected


@pytest.mark.parametrize(
    ("text", "tls", "port"),
    [("", Tls.STARTTLS, 21), ("implicit = True\n", Tls.TLS, 990), ("implicit = True\nport = 2990\n", Tls.TLS, 2990)],
)
def test_ways_of_encryption(site: Site, text: str, tls: Tls, port: int) -> None:
    found = access(site, f"[ftps]\n{text}", "ftps")
    assert (found.tls, found.port) == (tls, port)


@pytest.mark.parametrize("protocol", ["sftp", "ftp", "ftps"])
def test_the_mode_is_that_of_its_own_section(site: Site, protocol: str) -> None:
    stream, _ = loaded(site, f"[{protocol}]\ntransfer_mode = mirror\n[rsync_ssh]\ntransfer_mode = move\n", protocol)
    assert stream.mode is TransferMode.MIRROR


@pytest.mark.parametrize(("protocol", "zips"), [("sftp", False), ("ftp", True), ("ftps", True)])
def test_directory_units_by_ftp_are_zipped(site: Site, protocol: str, zips: bool) -> None:
    stream, _ = loaded(site, "[data_stream]\ntransfer_unit = directory\n", protocol)
    assert stream.unit is TransferUnit.DIRECTORY
    assert stream.zips is zips


def test_sftp_has_a_login_of_its_own(site: Site) -> None:
    text = "[sftp]\nusername = me\nport = 2222\nconnect_timeout = 7\n[rsync_ssh]\nusername = other\ncompress = True\n"
    stream, _ = loaded(site, text, "sftp")
    ssh = stream.targets[0].ssh
    assert (ssh.username, ssh.port, ssh.connect_timeout, ssh.compress) == ("me", 2222, 7, False)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1"])
def test_a_password_that_leaves_no_host_is_nothing_to_warn_of(site: Site, host: str) -> None:
    _, warnings = loaded(site, "[ftp]\npassword = hunter2\n", "ftp", host)
    assert warnings == ()


def test_a_password_in_the_clear_is_warned_of(site: Site) -> None:
    _, (warning,) = loaded(site, "[ftp]\npassword = hunter2\n", "ftp", "ftp.example.org")
    assert "[ftp] password: the password and all data travel to ftp.example.org in the clear" in warning
    assert "hunter2" not in warning


def test_the_program_of_the_past_is_told_to_have_no_effect(site: Site) -> None:
    _, (warning,) = loaded(site, "[ftp]\ncmd = /usr/bin/ftp\n", "ftp")
    assert "no program is run for ftp" in warning


def test_a_password_is_not_shown(site: Site) -> None:
    stream, _ = loaded(site, "[ftps]\npassword = hunter2\n", "ftps")
    assert "hunter2" not in repr(stream)


def test_one_password_is_enough(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    with pytest.raises(ConfigError, match="both set"):
        loaded(site, f"[ftps]\npassword = hunter2\npassword_file = {secret}\n", "ftps")


@pytest.mark.parametrize("protocol", ["sftp", "ftp", "ftps"])
def test_a_password_file_is_private(site: Site, tmp_path: Path, protocol: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        loaded(site, f"[{protocol}]\npassword_file = {secret}\n", protocol)
