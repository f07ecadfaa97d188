"""Writes the reference page of all keys from schema.ini: `python -m mistamover.config.reference`.

Reads no operator's file and never imports `load`.
"""

from __future__ import annotations

import sys

from mistamover.config import schema
from mistamover.config.schema import Option, Section

_INTRODUCTION = """\
.. This page is generated: python -m mistamover.config.reference > doc/reference/configuration.rst

Configuration reference
=======================

Every section and key of the global file and of the stream files. A key may stand in either file, except those marked
as read from the global file only. What the environment sets as ``CONFIG__section__key`` is used first, then what the
stream's file says, then what the global file says, then the default. An empty value, or ``None``, asks for the
default.

Keys may be written in upper or lower case; section names may not. A value can refer to others as
``$(section:key)``. Times are in seconds unless the text says otherwise and may have the suffix ``s``, ``m``, ``h`` or
``d``. A relative path is relative to the directory of the global file.
"""

_TYPES = {
    "text": "text",
    "boolean": "True or False",
    "integer": "whole number",
    "number": "number",
    "seconds": "seconds",
    "days": "days",
    "size": "bytes, or a number with KB, MB, GB, TB, KiB, MiB, GiB or TiB",
    "words": "words, separated by blanks or commas",
    "path": "path",
    "filename": "file name without a directory",
    "host": "host name or address",
    "address": "host name or address, or host:port",
    "login": "login name",
    "command": "command",
    "bandwidth": "rate in KiB per second, or with K, M or G",
}


def page() -> str:
    """Return the whole page as reStructuredText."""
    parts = [_INTRODUCTION, *(_section(section) for section in schema.sections()), _replaced()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _section(section: Section) -> str:
    heading = f"[{section.name}]"
    parts = [
        f".. _config-{section.name.replace('_', '-')}:",
        f"{heading}\n{'-' * len(heading)}",
        _escaped(section.help),
    ]
    parts.extend(_option(option) for option in section.options if not option.replaced)
    return "\n\n".join(parts)


def _option(option: Option) -> str:
    lines = [f"``{option.key}``", f"    {_escaped(option.help)}", "", f"    :Type: {_type(option)}"]
    lines.append(f"    :Default: {_default(option)}")
    lines.append(f"    :Required: {_escaped(option.required) or 'no'}")
    if option.service:
        lines.append("    :Read from: the global file only")
    return "\n".join(lines)


def _type(option: Option) -> str:
    if option.type == "choice":
        return "one of " + ", ".join(f"``{name}``" for name in option.arguments)
    bounds = dict(option.bounds)
    text = _TYPES[option.type]
    if "min" in bounds and "max" in bounds:
        return f"{text}, from {bounds['min']} to {bounds['max']}"
    return f"{text}, {bounds['min']} or more" if "min" in bounds else text


def _default(option: Option) -> str:
    if option.default is not None:
        return f"``{option.default}``"
    return _escaped(option.otherwise) or "none"


def _replaced() -> str:
    rows = [
        f"    * - [{option.section}] ``{option.key}``\n      - {_escaped(option.replaced)}"
        for option in schema.options()
        if option.replaced
    ]
    title = "Keys that are accepted but replaced"
    table = ".. list-table::\n    :header-rows: 1\n\n    * - Key\n      - What takes its place"
    text = "Older files may hold these keys. They do no harm; a warning says what is used in their place."
    return f"{title}\n{'-' * len(title)}\n\n{text}\n\n{table}\n" + "\n".join(rows)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`").replace("_ ", "\\_ ")


if __name__ == "__main__":
    sys.stdout.write(page())
