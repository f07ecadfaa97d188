"""When an archive is asked again, and what its headers mean."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.jobs.transfer.archive_interface import seen_of
from mistamover.jobs.transfer.staging import Seen, next_look


def test_pauses_double_and_end() -> None:
    now, looks = 1000.1, []
    while (when := next_look(1000.0, now, 600.0, 0.5)) is not None:
        looks.append(when)
        now = when + 0.1
    pauses = [after - before for before, after in itertools.pairwise(looks)]
    assert pauses[0] == pytest.approx(1.2, abs=0.3)
    assert all(0.9 * before <= after <= 2.5 * before + 0.5 for before, after in itertools.pairwise(pauses[:-1]))
    assert max(pauses) == pytest.approx(60.0, abs=0.2)
    assert looks[-1] == 1600.0
    assert len(looks) < 20


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_nobody_looks_in_a_loop_or_never(began: float, waited: float, timeout: float, chance: float) -> None:
    now = began + waited
    when = next_look(began, now, timeout, chance)
    if when is None:
        assert now >= began + timeout
    else:
        assert when == began + timeout or 0.79 <= when - now <= 72.1


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({}, Seen()),
        ({"X-Pacifica-File-Storage-Media": "tape"}, Seen(on_disk=False)),
        ({"x-pacifica-file-storage-media": " DISK "}, Seen()),
        ({"X-Content-Length": "30"}, Seen(size=30)),
        ({"X-Content-Length": "-1"}, Seen()),
        ({"X-Content-Length": "1e3"}, Seen()),
        ({"X-Content-Length": "9" * 30}, Seen()),
        ({"X-Content-Length": "\u0663"}, Seen()),
        ({"Content-Length": "7"}, Seen()),
        ({"Last-Modified": "1400000000.75"}, Seen(mtime=1_400_000_000)),
        ({"Last-Modified": "Tue, 13 May 2014 16:53:20 GMT"}, Seen(mtime=1_400_000_000)),
        ({"Last-Modified": "soon", "X-Pacifica-Ctime": "12.5"}, Seen(mtime=12)),
        ({"Last-Modified": "inf"}, Seen()),
        ({"Last-Modified": "nan"}, Seen()),
        ({"Last-Modified": "-5"}, Seen()),
        ({"Last-Modified": "1e300"}, Seen()),
    ],
)
def test_headers(fields: dict[str, str], seen: Seen) -> None:
    assert seen_of(fields) == seen


@given(
    st.dictionaries(st.sampled_from(["X-Content-Length", "Last-Modified", "X-Pacifica-Ctime"]), st.text(max_size=40))
)
def test_no_header_is_too_strange(fields: dict[str, str]) -> None:
    seen = seen_of(fields)
    assert (seen.size or 0) >= 0
    assert 0 <= seen.mtime < 2**33
