"""Names are bytes inside and one printable line outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.files.names import base, display, from_rsync, is_ours, json_name, looks_like_rsync_temporary, parent

NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain", "plain"),
        ("é ü".encode(), "é ü"),
        (b"a\nb", "a\\nb"),
        (b"\xff", "\\xff"),
        (b"\x1b[31m", "\\x1b[31m"),
        ("\u202e".encode(), "\\u202e"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)
def test_display(name: bytes, text: str) -> None:
    assert display(name) == text


@given(NAMES)
def test_any_name_is_one_harmless_line(name: bytes) -> None:
    text = display(name)
    assert text.isprintable()
    fields = json_name(name)
    assert fields["name"] == text
    back = bytes.fromhex(fields["name_hex"]) if "name_hex" in fields else fields["name"].encode()
    assert back == name


@given(NAMES)
def test_rsync_escapes_come_back(name: bytes) -> None:
    """Escaped as rsync does it with --8-bit-output: unprintable bytes, and a backslash before `#`."""
    escaped = b"".join(
        b"\\#%03o" % byte
        if byte < 32 or byte == 127 or (byte == 92 and name[at + 1 : at + 2] == b"#" and _digits(name[at + 2 : at + 5]))
        else bytes([byte])
        for at, byte in enumerate(name)
    )
    assert from_rsync(escaped) == name


def _digits(three: bytes) -> bool:
    return len(three) == 3 and three.isdigit()


@given(NAMES, NAMES)
def test_parts(above: bytes, last: bytes) -> None:
    last = last.replace(b"/", b"_")
    assert (parent(above + b"/" + last), base(above + b"/" + last)) == (above, last)


def test_top_level_has_no_parent() -> None:
    assert (parent(b"a"), base(b"a")) == (b"", b"a")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (b".mistamover/x", True),
        (b"a/b/.mistamover-7", True),
        (b"a.mistamover", False),
        (b"mistamover", False),
        (b"a/ .mistamover", False),
    ],
)
def test_our_mark(name: bytes, ours: bool) -> None:
    assert is_ours(name) is ours


@pytest.mark.parametrize(
    ("last", "temporary"),
    [
        (b".a.aB3xY9", True),
        (b".a\n.aB3xY9", True),
        (b"a.aB3xY9", False),
        (b".a.aB3xY", False),
        (b".a.aB3xY9\n", False),
        (b"..aB3xY9", False),
    ],
)
def test_temporary_of_rsync(last: bytes, temporary: bool) -> None:
    assert looks_like_rsync_temporary(last) is temporary
