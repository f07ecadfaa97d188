"""The contract of transports, kept where there is nothing but rsync: a daemon, and a key that is restricted to it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import contract
from contract import Contract, End, Traits
from mistamover.config.access import NativeAccess
from mistamover.config.settings import TargetSettings
from mistamover.testing.rsyncd import PrivateRsyncd
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.base import Transport
from mistamover.transport.rsync_bridge import RsyncBridge
from mistamover.transport.rsync_calls import Command
from mistamover.transport.rsync_far import Daemon, RestrictedKey
from mistamover.transport.rsync_only import RsyncOnly
from mistamover.transport.rsync_ssh import RsyncSsh
from mistamover.transport.ssh import NoRsync, NoShell
from support import free_port

#: So slow that progress is told before the end of what is huge.
LIMIT = "20M"
#: So slow that much is left then.
SLOW = "8M"

COMMAND = Command(rsync=("rsync",), section="rsync_native", use_checksum=False, bandwidth_limit=LIMIT)


def access(rsyncd: PrivateRsyncd, **changes: object) -> NativeAccess:
    """Return how to get at a private daemon."""
    made = NativeAccess(
        rsync=("rsync",),
        host=rsyncd.host,
        port=rsyncd.port,
        username=rsyncd.user,
        password=rsyncd.password,
        password_file=None,
        use_checksum=False,
        bandwidth_limit=None,
        connect_timeout=10,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


class NativeEnd(End):
    traits = Traits(reserve=False, notices_changes=False, huge=48 << 20)

    def slowly(self) -> Transport:
        return self.transport(access=dataclasses.replace(self._changes["access"], bandwidth_limit=SLOW))  # type: ignore[type-var]

    def unreachable(self) -> Transport:
        return self.transport(access=dataclasses.replace(self._changes["access"], port=free_port()))  # type: ignore[type-var]


def native(end: End, target: TargetSettings, _keep: bool) -> Transport:
    assert isinstance(target.access, NativeAccess)
    return RsyncOnly(
        source=os.fsencode(end.source),
        target=target,
        command=dataclasses.replace(COMMAND, bandwidth_limit=target.access.bandwidth_limit or LIMIT),
        far=Daemon(target.access, end.run),
        run_dir=end.run,
        owner="me",
    )


class _Contract(Contract):
    """As the contract, without what there is not: directory units travel as zips."""

    @pytest.mark.parametrize("what", ["many", "huge"])
    def test_it_is_killed_in_the_middle(self, end: End, what: str) -> None:
        super().test_it_is_killed_in_the_middle(end, what)

    test_a_directory_unit_appears_whole = None
    test_a_directory_unit_again = None
    test_a_directory_unit_that_changes = None
    test_names_that_it_cannot_hold_are_refused = None
    test_room_that_is_to_stay_free = None


class TestDaemon(_Contract):
    @pytest.fixture
    def end(self, scratch: Path, rsyncd: PrivateRsyncd) -> Iterator[End]:
        place = rsyncd.place(scratch / "target").strip("/")
        made = NativeEnd(scratch, native, host=rsyncd.address, directory=place, access=access(rsyncd))
        yield made
        made.close()


class RestrictedEnd(End):
    traits = Traits(reserve=False, notices_changes=False, huge=48 << 20)

    def slowly(self) -> Transport:
        return self.transport(ssh=dataclasses.replace(self._changes["ssh"], bandwidth_limit=SLOW))  # type: ignore[type-var]

    def unreachable(self) -> Transport:
        return self.transport(ssh=dataclasses.replace(self._changes["ssh"], port=free_port()))  # type: ignore[type-var]


def restricted(end: End, target: TargetSettings, keep: bool) -> Transport:
    source = os.fsencode(end.source)
    links = end.run / "links"
    full = RsyncSsh(source=source, target=target, state_dir=end.run, links_dir=links, owner="me", keep_extra=keep)
    far = RestrictedKey(target, end.run, links)
    command = Command.of_ssh(target)

    def alone() -> RsyncOnly:
        return RsyncOnly(source=source, target=target, command=command, far=far, run_dir=end.run, owner="me")

    return RsyncBridge(full, {NoShell: (("by rsync alone", alone),), NoRsync: ()})


@pytest.fixture(scope="session")
def rrsync(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSshd]:
    """A server on which every login runs rrsync, for the directory of all tests."""
    yield from restricted_sshd(tmp_path_factory.mktemp("rrsync"), tmp_path_factory.getbasetemp(), ["-no-lock"])


def restricted_sshd(directory: Path, top: Path, options: Sequence[str]) -> Iterator[PrivateSshd]:
    program = shutil.which("rrsync")
    if program is None:
        pytest.skip("rrsync is not installed")
    with PrivateSshd(directory, options=[f"ForceCommand {program} {' '.join(options)} {top}"]) as server:
        yield server


class TestRestrictedKey(_Contract):
    @pytest.fixture
    def end(self, scratch: Path, rrsync: PrivateSshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[End]:
        ssh = dataclasses.replace(contract.settings().ssh, ssh_config=rrsync.ssh_config, bandwidth_limit=LIMIT)
        place = os.fspath((scratch / "target").relative_to(tmp_path_factory.getbasetemp()))
        made = RestrictedEnd(scratch, restricted, host=rrsync.host, directory=place, ssh=ssh)
        yield made
        made.close()

    # What is the same for a daemon is tried there.
    test_an_empty_file_and_a_big_one = None
    test_it_is_given_up_in_the_middle = None
    test_it_is_given_up_before_it_begins = None
    test_a_file_takes_the_place_of_another = None
    test_a_zip_that_is_to_be_made_again = None
    test_one_that_is_gone = None
    test_one_that_has_changed = None
    test_one_that_changes_under_way = None
    test_empty_directories = None
