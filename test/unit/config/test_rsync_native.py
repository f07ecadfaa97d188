"""What [rsync_native] means together with [outgoing], and what is refused."""

from __future__ import annotations

import pytest

from mistamover.config.access import NativeAccess
from mistamover.config.settings import TargetSettings, TransferMode
from unit.config.sites import Site

OUTGOING = "[outgoing]\ntransfer_protocol = rsync_native\n"


def write(site: Site, text: str, *, host: str = "archive", directory: str = "/in/readings/") -> None:
    site.write("ds_one.ini", f"{OUTGOING}target_host = {host}\ntarget_dir = {directory}\n[rsync_native]\n{text}")


def target(site: Site) -> TargetSettings:
    [found] = site.stream().targets
    return found


def access(site: Site) -> NativeAccess:
    found = target(site).access
    assert isinstance(found, NativeAccess)
    return found


def test_the_first_part_of_the_directory_is_the_module(site: Site) -> None:
    write(site, "username = me\npassword = 'a; b'\ntransfer_mode = mirror\nbandwidth_limit = 2M\n", host="archive:8730")
    assert (target(site).directory, target(site).name) == ("in/readings", "archive:8730:in/readings")
    found = access(site)
    assert (found.host, found.port, found.username, found.bandwidth_limit) == ("archive", 8730, "me", "2M")
    assert "a; b" not in repr(found) and "a; b" in found.password
    assert site.stream().mode is TransferMode.MIRROR


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("archive", ("archive", None)),
        ("::1", ("::1", None)),
        ("[::1]:873", ("::1", 873)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
    ],
)
def test_hosts_and_ports(site: Site, host: str, expected: tuple[str, int | None]) -> None:
    write(site, "", host=host)
    assert (access(site).host, access(site).port) == expected


@pytest.mark.parametrize("directory", ["/", "in/../out", ".."])
def test_a_directory_without_a_module_is_refused(site: Site, directory: str) -> None:
    write(site, "", directory=directory)
    assert site.problem().key == "target_dir"


def test_a_user_needs_a_password(site: Site) -> None:
    write(site, "username = me\n")
    assert site.problem().key == "password"


def test_one_password_is_enough(site: Site) -> None:
    secret = site.conf / "secret"
    secret.touch(mode=0o600)
    write(site, f"username = me\npassword = x\npassword_file = {secret}\n")
    assert site.problem().key == "password"


def test_a_password_file_is_private(site: Site) -> None:
    secret = site.conf / "secret"
    secret.touch()
    secret.chmod(0o644)
    write(site, f"username = me\npassword_file = {secret}\n")
    assert "chmod 600" in site.problem().message


def test_options_that_skip_files_are_refused(site: Site) -> None:
    write(site, "cmd = rsync --size-only\n")
    assert (site.problem().section, site.problem().key) == ("rsync_native", "cmd")


def test_ssh_has_a_key_for_the_port(site: Site) -> None:
    site.write("ds_one.ini", "[outgoing]\ntransfer_protocol = rsync_ssh\ntarget_host = a:22\ntarget_dir = /in\n")
    assert site.problem().hint == "a port goes into the key port"


def test_directory_units_travel_as_zips(site: Site) -> None:
    write(site, "[data_stream]\ntransfer_unit = directory\n")
    assert site.stream().zips
