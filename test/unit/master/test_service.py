"""What the master makes of files that change while it reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mistamover.config.load import load
from mistamover.master import service
from mistamover.master.service import Master, Mode
from support import Site


def test_a_file_that_is_changed_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    site.write_global(**{"global": {"general_poll_interval": 0.05}})
    read: list[str] = []
    really = service.load_lenient

    def changed_behind_us(*given: Any) -> Any:
        read.append(site.global_ini.read_text())
        result = really(*given)
        if len(read) == 1:
            site.write_global(**{"global": {"stop_timeout": 33}})
        return result

    monkeypatch.setattr(service, "load_lenient", changed_behind_us)
    master = Master(load(site.global_ini, {}), {}, mode=Mode.FOREGROUND)
    site.write_global(**{"global": {"stop_timeout": 22}})
    for _ in range(4):
        master._next_look = 0.0
        master._look_at_configuration()
    assert ["= 33" in each for each in read] == [False, True]
