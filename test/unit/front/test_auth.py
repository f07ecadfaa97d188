"""Who asks, as far as that can be told without a store."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.serving import FrontSettings
from mistamover.front.auth import anonymous_scope, credentials, is_loopback
from mistamover.front.errors import Refused
from mistamover.front.origins import crosses, host_name
from mistamover.jobs.model import Scope

HERE = FrontSettings(anonymous="submit")


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer mm_x", (None, "mm_x")),
        ("bearer  mm_x ", (None, "mm_x")),
        (basic(b"me:mm_x"), ("me", "mm_x")),
        (basic(b":mm_x"), ("", "mm_x")),
        (basic(b"me:a:b"), ("me", "a:b")),
    ],
)
def test_credentials_are_read(header: str, expected: tuple[str | None, str]) -> None:
    assert credentials(header) == expected


@given(st.one_of(st.text(), st.text().map("Basic {}".format), st.binary().map(basic), st.just("Bearer " + "x" * 2_000)))
def test_anything_else_is_refused_and_nothing_more(header: str) -> None:
    try:
        name, secret = credentials(header)
    except Refused as error:
        assert error.status_code == 401
        assert "www-authenticate" in {name.lower() for name in error.headers or {}}
    else:
        assert header.lower().startswith("basic ") or (name is None and secret in header)


@pytest.mark.parametrize(
    ("peer", "headers", "settings", "expected"),
    [
        ("127.0.0.1", {}, HERE, Scope.SUBMIT),
        ("::1", {}, HERE, Scope.SUBMIT),
        ("::ffff:127.0.0.1", {}, HERE, Scope.SUBMIT),
        ("127.8.9.10", {}, HERE, Scope.SUBMIT),
        ("10.0.0.1", {}, HERE, Scope.NONE),
        ("::ffff:10.0.0.1", {}, HERE, Scope.NONE),
        ("", {}, HERE, Scope.NONE),
        ("localhost", {}, HERE, Scope.NONE),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, HERE, Scope.NONE),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, HERE, Scope.NONE),
        ("127.0.0.1", {"via": "1.1 proxy"}, HERE, Scope.NONE),
        ("127.0.0.1", {"x-real-ip": ""}, HERE, Scope.NONE),
        ("127.0.0.1", {}, FrontSettings(anonymous="submit", behind_proxy=True), Scope.NONE),
        ("127.0.0.1", {}, FrontSettings(), Scope.NONE),
    ],
)
def test_without_a_token_only_this_host_is_trusted(
    peer: str, headers: dict[str, str], settings: FrontSettings, expected: Scope
) -> None:
    assert anonymous_scope(settings, peer, headers) is expected


@given(st.text())
def test_any_address_is_judged(address: str) -> None:
    assert is_loopback(address) in (True, False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost:6543", "localhost"), ("[::1]:80", "::1"), ("LOCALHOST", "localhost"), ("evil.org:1", "evil.org"),
     ("", ""), ("[::1", ""), ("a@localhost", "localhost"), ("localhost/..", "localhost")],
)  # fmt: skip
def test_the_name_in_a_host_header(host: str, expected: str) -> None:
    assert host_name(host) == expected


@pytest.mark.parametrize(
    ("site", "origin", "expected"),
    [
        (None, None, False),
        ("none", None, False),
        ("same-origin", "http://localhost:6543", False),
        (None, "http://localhost:6543", False),
        (None, "https://LOCALHOST:6543", False),
        ("cross-site", None, True),
        ("same-site", None, True),
        ("same-origin", "https://name.of.the.proxy", False),
        ("cross-site", "http://localhost:6543", True),
        (None, "null", True),
        (None, "", True),
        (None, "http://localhost:6544", True),
        (None, "http://evil.example/localhost:6543", True),
    ],
)
def test_what_a_page_of_another_site_sends_is_told(site: str | None, origin: str | None, expected: bool) -> None:
    assert crosses(site, origin, "localhost:6543") is expected
