"""Bodies of requests, taken apart in whatever pieces they come."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.front.legacy.form_readers import BadBody, TooLarge, reader

BOUNDARY = "----0123456789"


class Kept:
    """Keeps the fields."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, bytes]] = []
        self._name: str | None = None
        self._value = b""

    def begin(self, name: str) -> None:
        assert self._name is None, "a field begins inside another one"
        self._name, self._value = name, b""

    def piece(self, data: bytes) -> None:
        assert self._name is not None, "a value without a field"
        self._value += data

    def end(self) -> None:
        assert self._name is not None, "a field ends that has not begun"
        self.fields.append((self._name, self._value))
        self._name = None


def taken(content_type: str, body: bytes, cuts: list[int] | None = None, *, raw: str = "") -> list[tuple[str, bytes]]:
    """Given a body and where it is cut into pieces, return its fields."""
    kept = Kept()
    reading = reader(content_type, kept, limit=10_000, raw=raw)
    ends = sorted({min(cut, len(body)) for cut in cuts or ()} | {len(body)})
    begin = 0
    for end in ends:
        reading.feed(body[begin:end])
        begin = end
    reading.close()
    return kept.fields


def multipart(fields: list[tuple[str, bytes]]) -> bytes:
    """Given fields, return the body that a browser or curl makes of them."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


names = st.text("abcxyz_09", min_size=1, max_size=8)
values = st.binary(max_size=40)
fields_of_a_form = st.lists(st.tuples(names, values), max_size=6)
cuts = st.lists(st.integers(0, 300), max_size=12)


@given(fields=fields_of_a_form, cuts=cuts)
def test_a_form_is_the_same_wherever_it_is_cut(fields: list[tuple[str, bytes]], cuts: list[int]) -> None:
    body = urlencode(fields).encode()
    assert taken("application/x-www-form-urlencoded", body, cuts) == fields


@given(fields=st.lists(st.tuples(names, values), min_size=1, max_size=6), cuts=cuts)
def test_a_multipart_body_is_the_same_wherever_it_is_cut(fields: list[tuple[str, bytes]], cuts: list[int]) -> None:
    whole = [(name, value.replace(b"--", b"")) for name, value in fields]
    assert taken(f"multipart/form-data; boundary={BOUNDARY}", multipart(whole), cuts) == whole


@given(body=st.binary(max_size=200), cuts=cuts)
def test_any_bytes_are_a_form(body: bytes, cuts: list[int]) -> None:
    assert taken("", body, cuts) == taken("", body)


def test_what_clients_that_say_nothing_send_is_a_form() -> None:
    assert taken("", b"a=1&b=x+y&c=%2F&&d") == [("a", b"1"), ("b", b"x y"), ("c", b"/"), ("d", b"")]


def test_json_is_taken_as_well() -> None:
    body = b'{"a": "1", "size": 12, "gather_metrics": true, "options": {"user": "u"}, "none": null}'
    fields = taken("application/json", body)
    assert fields == [("a", b"1"), ("size", b"12"), ("gather_metrics", b"True"), ("options", b'{"user": "u"}')]


def test_a_body_of_another_type_is_the_content_itself() -> None:
    assert taken("image/png", b"\x00\xff&=%", [2], raw="payload") == [("payload", b"\x00\xff&=%")]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"12", b"[" * 5_000, b"\xff"], ids=repr)
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        taken("application/json", body[:9_000])


def test_json_is_not_gathered_without_a_bound() -> None:
    with pytest.raises(TooLarge):
        taken("application/json", b" " * 10_001)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=" + "x" * 300, b""),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhalf'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: text/plain\r\n\r\n1\r\n--x--\r\n"),
        ("", b"a" * 2_000 + b"=1"),
    ],
)
def test_what_is_no_body_of_its_type_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(BadBody):
        taken(content_type, body)
