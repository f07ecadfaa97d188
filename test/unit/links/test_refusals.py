"""Sessions that are refused because others, which nobody here has any more, have not ended at the server yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.links.mux import Session
from mistamover.testing.sshd import PrivateSshd
from unit.links.ways import Keeper, closing_all, login_to

#: Seconds within which anything here happens.
LIMIT = 20.0

#: Lives on when its input, its output and its session are gone, as a command does that waits for a disk that hangs.
_HANGS = "echo hangs; exec sleep 30"


@pytest.fixture
def few(tmp_path: Path, sshd: PrivateSshd) -> Iterator[PrivateSshd]:
    """A server that allows three sessions on a connection; `sshd` is there for its check that one can run."""
    with PrivateSshd(tmp_path / "few", options=["MaxSessions 3"]) as server:
        yield server


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    with Keeper(tmp_path) as made:
        yield made


def works(session: Session) -> bool:
    """Tell whether a session that runs cat answers."""
    session.write(b"x\n")
    return session.read_line(LIMIT) == b"x"


def test_given_commands_that_outlive_their_sessions_when_another_is_wanted_then_it_has_another_connection(
    keeper: Keeper, few: PrivateSshd
) -> None:
    link = keeper.link(login_to(few))
    with contextlib.closing(link):
        for _ in range(3):
            hanging = link.session(_HANGS)
            assert hanging.read_line(LIMIT) == b"hangs"
            hanging.close()

        with contextlib.closing(link.session("exec cat")) as session:
            assert works(session)
        with link.rsync_shell() as shell:
            assert shell
        assert len(keeper.connections()) <= 3


@pytest.mark.parametrize("others", [0, 2])
def test_given_sessions_that_follow_each_other_at_once_when_few_are_allowed_then_none_is_refused(
    keeper: Keeper, few: PrivateSshd, others: int
) -> None:
    link = keeper.link(login_to(few))
    stay: list[Session] = []
    with contextlib.closing(link), closing_all(stay):
        stay += [link.session("exec cat") for _ in range(others)]
        for _ in range(60):
            link.session("exec cat").close()

        with contextlib.closing(link.session("exec cat")) as session:
            assert all(works(each) for each in (session, *stay))
        assert len(keeper.connections()) <= 30
