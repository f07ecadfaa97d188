"""Ways to log in: what two streams must have in common, how ssh is called, and that nonsense is refused in order."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mistamover.links import messages
from mistamover.links.login import Login, client
from unit.links.ways import login_to, settings_of


def test_given_other_directories_and_ways_of_rsync_when_made_then_the_login_is_the_same() -> None:
    other = settings_of(
        None, directory="/elsewhere", rsync=("rsync", "-z"), use_checksum=True, bandwidth_limit="9", express=False
    )

    assert Login.of(other) == login_to(None)


def test_given_a_login_when_asked_for_words_then_ssh_never_asks_anybody_and_forwards_nothing() -> None:
    words = login_to(None, username="u", port=22).words("c.conf", "./s1")

    assert words[:3] == ["ssh", "-F", "c.conf"]
    assert words[words.index("-S") + 1] == "./s1"
    assert {"BatchMode=yes", "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes"} <= set(words)


def test_given_ciphers_of_the_operator_when_made_then_they_are_used_and_no_configuration_is_made() -> None:
    login = login_to(None, ciphers="aes256-ctr", ssh_config=Path("/c"))

    assert "Ciphers=aes256-ctr" in login.options
    assert login.options[login.options.index("-F") + 1] == "/c"
    assert login.configuration is None


def test_given_a_configuration_with_a_name_that_ssh_would_not_take_when_made_then_it_is_named_as_it_is() -> None:
    login = login_to(None, ssh_config=Path('/a "b"*'))

    assert login.options[login.options.index("-F") + 1] == '/a "b"*'
    assert login.configuration is None


def test_given_the_words_of_a_client_when_there_is_no_connection_then_it_could_not_log_in_by_itself() -> None:
    words = client("./s1").split()

    assert words[words.index("-S") + 1] == "./s1"
    assert "ProxyCommand=false" in words


_KEYS = st.sampled_from(
    ("login", "turn", "program", "options", "configuration", "host", "who", "patience", "target", "weight", "cost")
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(_JSON)
def test_given_any_json_when_parsed_then_it_is_a_wish_or_one_of_the_meant_errors(value: object) -> None:
    for said in (value, {"login": json.dumps(value)}, {"login": value}, {"turn": value}):
        try:
            messages.parse(json.dumps(said).encode())
        except (ValueError, KeyError, TypeError):
            continue
