"""The contract of transports, kept by `local`; and what only this one can be asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import Contract, End
from mistamover.transport.by_file import ByFile
from mistamover.transport.local import LocalFiles


def local(place: Path, **changes: object) -> End:
    """Return the two ends of a transport to a directory."""
    return End(
        place,
        lambda end, target, keep: ByFile(
            lambda: LocalFiles(target.directory),
            source=os.fsencode(end.source),
            target=target,
            run_dir=end.run,
            owner="me",
            keep_extra=keep,
        ),
        **changes,
    )


class TestLocal(Contract):
    @pytest.fixture
    def end(self, scratch: Path) -> Iterator[End]:
        made = local(scratch)
        yield made
        made.close()
