"""The fixture shared by the tests of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.config.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Given a site with one good stream, called one."""
    site = Site(tmp_path)
    site.conf.mkdir()
    site.write_global()
    site.write_stream()
    return site
