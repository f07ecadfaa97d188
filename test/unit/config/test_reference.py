"""The schema says something about every key, and the reference page is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config import schema
from mistamover.config.reference import page

PAGE = Path(__file__).parents[3] / "doc/reference/configuration.rst"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m mistamover.config.reference > " + str(PAGE)


def test_the_page_is_good_restructured_text() -> None:
    core = pytest.importorskip("docutils.core")
    core.publish_doctree(page(), settings_overrides={"halt_level": 2, "report_level": 2})


@pytest.mark.parametrize("option", schema.options(), ids=lambda option: f"{option.section}:{option.key}")
def test_every_key_has_a_help_text_of_whole_sentences(option: schema.Option) -> None:
    assert option.help[0].isupper() or option.help.startswith("move ")
    assert option.help.endswith(".")


def test_every_section_has_a_help_text() -> None:
    assert all(section.help for section in schema.sections())


def test_an_option_says_all_that_the_schema_says() -> None:
    port = schema.find("rsync_ssh", "port")
    assert port is not None
    assert (port.type, port.bounds, port.default) == ("integer", (("min", "1"), ("max", "65535")), None)
    assert (port.new, port.service, port.otherwise) == (True, False, "what the ssh configuration says")
    mode = schema.find("outgoing", "transfer_mode")
    assert mode is not None and "[rsync_ssh]" in mode.replaced
    assert schema.find("outgoing", "nothing") is None


def test_a_misplaced_key_has_at_most_one_home() -> None:
    assert schema.home_of("settle_time", new=True) == "data_stream"
    assert schema.home_of("priority", new=True) == ""
    assert schema.home_of("priority", new=False) == "data_stream"
    assert schema.home_of("directory", new=False) == "data_stream"
    assert schema.home_of("nothing", new=False) == ""
