"""Paths that clients write: cleaned, or refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.errors import JobRefused
from mistamover.jobs import paths


@pytest.mark.parametrize(
    ("path", "base", "clean"),
    [
        ("a", "/data", "a"),
        ("a/b/", "/data", "a/b"),
        ("./a/./b", "/data", "a/b"),
        ("/data/a", "/data", "a"),
        ("/data//a/", "/data", "a"),
        ("/a", "/", "a"),
        ("..a/b..", "/data", "..a/b.."),
        ("with\nnewline", "/data", "with\nnewline"),
        ("%2e%2e", "/data", "%2e%2e"),
    ],
)
def test_what_lies_inside_is_taken(path: str, base: str, clean: str) -> None:
    assert paths.cleaned(path, base) == clean


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "/", "..", "a/..", "../a", "a/../../b", "a//b", "//a", "/dat/a", "/database/a", "/data/../etc", "a\0",
        "x" * 256, "/".join(["x" * 200] * 30), ".mistamover-x", "a/.mistamover/b",
    ],
)  # fmt: skip
def test_what_does_not_is_refused(path: str) -> None:
    with pytest.raises(JobRefused) as refusal:
        paths.cleaned(path, "/data")
    assert refusal.value.code == "bad-path"
    assert str(refusal.value).isprintable()


def test_the_base_itself_is_taken_only_where_that_is_wanted() -> None:
    assert [paths.cleaned(path, "/data", empty=True) for path in ("", "/data", "/data/", ".")] == ["", "", "", ""]
    with pytest.raises(JobRefused):
        paths.cleaned("/data/", "/data")


def test_an_absolute_path_needs_an_absolute_base() -> None:
    with pytest.raises(JobRefused):
        paths.cleaned("/data/a", "data")


@given(st.text(max_size=40))
def test_whatever_is_written_is_refused_or_stays_inside(path: str) -> None:
    try:
        clean = paths.cleaned(path.encode("utf-8", "surrogatepass").decode("utf-8", "replace"), "/data")
    except JobRefused:
        return
    whole = os.path.normpath(f"/data/{clean}")
    assert whole.startswith("/data/")
    assert paths.cleaned(clean, "/data") == clean


@pytest.mark.parametrize("written", ["a%2fb", "a%2Fb", "..%2f..", "a%00b"])
def test_no_slash_is_hidden_in_a_url(written: str) -> None:
    with pytest.raises(JobRefused):
        paths.decoded(written)


def test_a_path_comes_through_a_url_as_it_was() -> None:
    for path in ("a b", "100%", "ü", "bad\udcff", "a?b#c", "%2e%2e/x"):
        assert paths.decoded(paths.encoded(path)) == path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.csv", "a.csv"), ("/etc/passwd", "passwd"), ("..\\..\\x.txt", "x.txt"), ("..", ""), (".ssh", "ssh"),
        ("", ""),
        ("a\nb\x00c", "abc"), (" x ", "x"), ("ä" * 200, "ä" * 127), ("a/", ""),
        (". ..", ""), (". ...tar", "tar"), (". .\n. .ssh", "ssh"), ("ab.." + "x" * 253, "x" * 253),
    ],
)  # fmt: skip
def test_names_of_servers_are_made_safe(text: str, name: str) -> None:
    assert paths.file_name(text) == name


def test_wildcards_stand_for_no_hidden_names() -> None:
    names = ["a.nc", "b.nc", ".c.nc", "A.nc"]
    assert paths.matches(names, "*.nc") == ["A.nc", "a.nc", "b.nc"]
    assert paths.matches(names, ".*") == [".c.nc"]
    assert paths.matches(names, "[a-b].n?") == ["a.nc", "b.nc"]
