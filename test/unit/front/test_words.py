"""Text and names on their way to a client."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.serving import CartSettings, EndpointSettings, EngineSettings, FrontSettings, JobSettings
from mistamover.front import words
from mistamover.front.content import byte_range, disposition

ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates as well
FILE_NAMES = st.binary(max_size=100).map(os.fsdecode)


@given(st.one_of(ANY_TEXT, FILE_NAMES))
def test_a_line_can_be_shown_everywhere(text: str) -> None:
    line = words.line(text)
    assert line.isprintable()
    assert len(line) <= words.LONGEST
    line.encode()


@given(FILE_NAMES)
def test_no_byte_of_a_path_is_lost(path: str) -> None:
    shown = words.name(path)
    assert shown["path"].isprintable()
    raw = bytes.fromhex(shown["path_hex"]) if "path_hex" in shown else shown["path"].encode()
    assert raw == os.fsencode(path)


def test_directories_of_this_host_are_not_told() -> None:
    settings = JobSettings(
        enabled=True,
        directory=Path("/var/lib/agent/jobs"),
        front=FrontSettings(),
        engine=EngineSettings(database_url="sqlite:////x"),
        carts=CartSettings(volume=Path("/x") / "carts"),
    )
    endpoints = [
        EndpointSettings(name="all", url="file:///data", scheme="file", base="/data"),
        EndpointSettings(name="inner", url="file:///data/inner", scheme="file", base="/data/inner"),
        EndpointSettings(name="root", url="file:///", scheme="file", base="/"),
    ]
    instead = words.places(settings, endpoints)
    text = "cannot open /data/inner/x: not /data/y, nor /var/lib/agent/jobs/spool/1 and/or"
    assert words.masked(text, instead) == "cannot open (inner)/x: not (all)/y, nor (jobs)/spool/1 and/or"


@given(st.one_of(ANY_TEXT, FILE_NAMES))
def test_a_file_name_makes_a_header_that_is_one(name: str) -> None:
    header = disposition(name)
    assert header.isascii() and header.isprintable()
    assert header.count('"') == 2


@given(
    st.one_of(st.text(), st.from_regex(r"\Abytes=\d*-\d*\Z"), st.from_regex(r"\Abytes=\d{0,3}-\d{0,3}\Z")),
    st.integers(0, 1_000),
)
def test_a_range_stays_inside_the_content(header: str, size: int) -> None:
    found = byte_range(header, size)
    if found is not None:
        begin, end = found
        assert begin >= 0
        assert end <= size
