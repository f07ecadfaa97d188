"""What is said to the process that keeps connections, and how a login is told: values that travel."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.links import messages
from mistamover.links.login import Login
from mistamover.links.messages import Answer
from mistamover.links.turns import Request
from unit.links.ways import login_to, settings_of

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
LOGINS = st.builds(
    Login,
    program=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    options=st.lists(TEXT, max_size=8).map(tuple),
    configuration=st.none() | TEXT,
    host=TEXT,
    who=TEXT,
    patience=st.floats(0, 1e6),
)
REQUESTS = st.builds(Request, target=TEXT, stream=TEXT, weight=st.floats(0, 1e6), cost=st.floats(0, 1e15))


@given(LOGINS | REQUESTS)
def test_a_question_arrives_as_it_was_asked(wish: Login | Request) -> None:
    assert messages.parse(messages.question(wish)) == wish


@given(LOGINS)
def test_a_login_survives_being_text(login: Login) -> None:
    again = Login.from_json(login.to_json())
    assert again == login and hash(again) == hash(login)
    assert "\n" not in login.to_json()


@given(st.binary(max_size=200))
def test_garbage_is_told_from_questions(garbage: bytes) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        messages.parse(garbage)


@pytest.mark.parametrize(
    "said",
    [
        b"null",
        b"{}",
        b"[]",
        b'["login"]',
        b'{"login": 1}',
        b'{"login": "{}"}',
        b'{"login": "null"}',
        b'{"turn": null}',
        b'{"turn": {}}',
        b'{"turn": {"target": "t", "stream": "s", "weight": 1, "cost": 1, "more": 1}}',
    ],
)
def test_what_is_json_and_no_question_is_told_as_well(said: bytes) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        messages.parse(said)


# -- logins -----------------------------------------------------------------------------------


def test_equal_settings_are_equal_logins() -> None:
    assert login_to(None) == login_to(None)
    assert login_to(None, directory="/elsewhere") == login_to(None), "where the files go does not matter"
    assert login_to(None, compress=True, express=False, bandwidth_limit="100", rsync=("rsync", "-v")) == login_to(None)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "127.0.0.2"},
        {"port": 2},
        {"username": "somebody"},
        {"identity_file": Path("/key")},
        {"ssh_config": Path("/config")},
        {"ciphers": "aes256-ctr"},
        {"connect_timeout": 3},
        {"ssh": ("ssh", "-v")},
    ],
)
def test_other_settings_are_other_logins(change: dict[str, Any]) -> None:
    assert login_to(None, **change) != login_to(None)


def test_no_option_of_a_login_can_be_taken_for_the_host() -> None:
    login = login_to(None, host="-oProxyCommand=touch /tmp/x")
    assert login.words(None, "./s")[-2:] == ["--", "-oProxyCommand=touch /tmp/x"]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Host key verification failed.", "ssh-keyscan"),
        ("me@h: Permission denied (publickey).", "authorized_keys"),
        ("ssh: Could not resolve hostname h: Name or service not known", "target_host"),
        ("ssh: connect to host h port 1: Connection refused", "is sshd running"),
        ("ssh: connect to host h port 1: Connection timed out", "firewall"),
        ("", "no answer"),
    ],
)
def test_what_ssh_said_is_told_with_a_hint(said: str, hint: str) -> None:
    words = login_to(None, username="me").explain(said)
    assert words.startswith("cannot connect to me@127.0.0.1") and said in words and hint in words


def test_a_login_names_the_user_of_the_settings() -> None:
    assert Login.of(settings_of(None, username="me")).who == "me@127.0.0.1"
    assert Login.of(settings_of(None)).who == "127.0.0.1"


# -- sockets ----------------------------------------------------------------------------------


def test_questions_and_answers_pass_in_a_directory_with_a_long_name(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d" * 60] * 4)
    wish = login_to(None)
    with messages.listen(deep) as listener:
        assert deep.stat().st_mode & 0o777 == 0o700
        asking = messages.ask(deep, wish)
        assert asking is not None
        client, _ = listener.accept()
        with asking, client:
            assert messages.parse(client.recv(messages.LONGEST)) == wish
            client.send(Answer(socket="./s1").to_bytes())
            assert messages.answer(asking, 5) == Answer(socket="./s1")
            assert messages.answer(asking, 0.05) is None, "silent"
            client.close()
            assert messages.answer(asking, 5) is None, "gone"


def test_nobody_to_ask(tmp_path: Path) -> None:
    assert messages.reach(tmp_path) is None
    assert messages.reach(tmp_path / "missing") is None
    assert messages.ask(tmp_path, login_to(None)) is None
    messages.listen(tmp_path).close()
    assert messages.reach(tmp_path) is None, "a socket that a predecessor has left"
    with messages.listen(tmp_path):
        other = messages.reach(tmp_path)
        assert other is not None
        other.close()


@pytest.mark.parametrize("said", [b"garbage", b"null", b"[]", b'{"more": 1}', b"\xff\xfe", b"1"])
def test_an_answer_that_makes_no_sense_is_none(said: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(said)
        assert messages.answer(ours, 5) is None


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert messages.reach(tmp_path) is None
        with messages.listen(tmp_path):
            found = messages.reach(tmp_path)
            assert found is not None
            found.close()
    assert len(os.listdir("/proc/self/fd")) == before
