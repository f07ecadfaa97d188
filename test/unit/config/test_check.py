"""The types of the schema: what each takes, and what it says of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from configobj.validate import Validator
from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.check import CheckError, functions


def checked(kind: str, value: str) -> Any:
    return Validator(dict(functions())).check(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("boolean", "True", True),
        ("boolean", "oN", True),
        ("boolean", "1", True),
        ("boolean", "no", False),
        ("boolean", "0", False),
        ("integer", "0", 0),
        ("integer(min=1, max=65535)", "22", 22),
        ("number", "1000.", 1000.0),
        ("number", "1e3", 1000.0),
        ("seconds", "0", 0.0),
        ("seconds", "2.5", 2.5),
        ("seconds", "1e3", 1000.0),
        ("seconds", "90s", 90.0),
        ("seconds", "5 m", 300.0),
        ("seconds", "2H", 7200.0),
        ("seconds", "1d", 86400.0),
        ("days", "2", 172800.0),
        ("days", "12h", 43200.0),
        ("words", "a b,c , d", ("a", "b", "c", "d")),
        ("words", """*.a "b c", 'd,e' it's""", ("*.a", "b c", "d,e", "it's")),
        ("words", " , ", ()),
        ('choice("RUNNING", "STOPPED")', "running", "RUNNING"),
        ("path", "a/b", Path("a/b")),
        ("path", "~/x", Path.home() / "x"),
        ("filename", ".stop", ".stop"),
        ("host", "a-b.example.org", "a-b.example.org"),
        ("host", "192.0.2.1", "192.0.2.1"),
        ("host", "fe80::1%eth0", "fe80::1%eth0"),
        ("host", "[2001:db8::1]", "[2001:db8::1]"),
        ("login", "12345", "12345"),
        ("login", "me@realm", "me@realm"),
        ("command", "rsync -e 'ssh -i k'", ("rsync", "-e", "ssh -i k")),
        ("bandwidth", "2.5M", "2.5M"),
        ('text(required="x", otherwise="y", new="yes", scope="service")', "t", "t"),
    ],
)
def test_a_good_value_is_converted(kind: str, value: str, expected: object) -> None:
    assert checked(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("boolean", "maybe", "True or False"),
        ("integer", "1.5", "a whole number"),
        ("integer", "1_000", "a whole number"),
        ("integer", "9" * 5000, "a whole number"),
        ("integer(min=0)", "-1", "0 or more"),
        ("integer(min=1, max=65535)", "65536", "from 1 to 65535"),
        ("number", "nan", "a number"),
        ("number", "inf", "a number"),
        ("number", "1_0", "a number"),
        ("number", "x", "a number"),
        ("number(min=0)", "-1", "0 or more"),
        ("seconds", "-1", "seconds"),
        ("seconds", "nan", "seconds"),
        ("seconds", "1e999", "seconds"),
        ("seconds", "5 parsecs", "seconds"),
        ("seconds(min=1)", "0.5", "1 or more"),
        ("days", "soon", "days"),
        ("words", '"a b', "words"),
        ("words", '"a"b', "words"),
        ('choice("move", "mirror")', "copy", "move, mirror"),
        ("path", "~no-such-user-here/x", "a path"),
        ("filename", "a/b", "without a directory"),
        ("filename", "..", "without a directory"),
        ("filename", "x" * 256, "at most 255 bytes"),
        ("host", "-oProxyCommand=x", "a host name"),
        ("host", "a b", "a host name"),
        ("host", "a/b", "a host name"),
        ("login", "-x", "a name"),
        ("login", "a b", "a name"),
        ("command", "rsync 'x", "quotes in pairs"),
        ("bandwidth", "fast", "KiB"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(kind: str, value: str, expected: str) -> None:
    with pytest.raises(CheckError) as caught:
        checked(kind, value)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("kind", "value", "hint"),
    [
        ('choice("move", "mirror")', "miror", 'did you mean "mirror"?'),
        ('choice("rsync_ssh", "none")', "rsync", 'did you mean "rsync_ssh"?'),
        ("host", "me@there", "a login name goes into the key username"),
        ("host", "there:22", "a port goes into the key port"),
        ("address", "me@there:22", "a login name goes into the key username"),
    ],
)
def test_a_near_miss_gets_a_hint(kind: str, value: str, hint: str) -> None:
    with pytest.raises(CheckError) as caught:
        checked(kind, value)
    assert caught.value.hint == hint


@given(st.lists(st.text(st.characters(exclude_characters='"'), min_size=1)))
def test_words_in_quotes_come_back(words: list[str]) -> None:
    assert checked("words", " , ".join(f'"{word}"' for word in words)) == tuple(words)


@given(st.floats(min_value=0, max_value=1e12))
def test_seconds_come_back(seconds: float) -> None:
    assert checked("seconds", repr(seconds)) == seconds


@given(st.text())
def test_no_text_makes_a_type_fail_otherwise(text: str) -> None:
    for name, _ in functions():
        try:
            checked(f'{name}("reason")' if name in ("replaced",) else name, text)
        except CheckError as error:
            assert error.what and error.expected
