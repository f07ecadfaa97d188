"""Hints alone, in a tree in which anything happens: whatever comes is heard of, under its last name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from unit.watch.looking import Watch, units
from unit.watch.tree import STEPS, Tree


@given(steps=st.lists(STEPS, max_size=40))
@settings(max_examples=60, deadline=None)
def test_without_a_further_scan_every_unit_is_heard_of(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        tree = Tree(Path(place))
        one = Watch(tree.root)
        try:
            one.look()
            for step in steps:
                if step[0] == "look":
                    one.look(step[1] + 1)
                else:
                    tree.apply(step)
            one.until(*units(tree.root))
            one.seen.clear()
            tree.put_into_each()
            one.until(*(os.fsencode(name) for name in tree.written()))
            assert one.arrivals.full_scans == 1
        finally:
            one.arrivals.stop()
