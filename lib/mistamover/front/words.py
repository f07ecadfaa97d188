"""Text for the wire: one line of printable characters, not too long, without the places of this host.

Pure; used by every dialect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mistamover.config.serving import EndpointSettings, JobSettings
from mistamover.files.names import display

#: Characters of an error or a reason that anybody reads.
LONGEST = 1_000

_SPACES = re.compile(r"\s+")


def line(text: str, longest: int = LONGEST) -> str:
    """Given any text, return one line of it that disturbs no terminal, header, JSON or XML."""
    one = _SPACES.sub(" ", text).strip()
    shown = display(one.encode("utf-8", "surrogateescape" if _decoded(one) else "replace"))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def name(path: str) -> dict[str, str]:
    """Given a path of the store, return its JSON fields: `path`, and `path_hex` where that loses bytes or hides one."""
    raw = path.encode("utf-8", "surrogateescape" if _decoded(path) else "replace")
    text = display(raw)
    return {"path": text} if text.encode() == raw else {"path": text, "path_hex": raw.hex()}


def places(settings: JobSettings, endpoints: Iterable[EndpointSettings]) -> Mapping[str, str]:
    """Given the settings and all endpoints, return what stands in a public text instead of which directory."""
    found = {each.base: f"({each.name})" for each in endpoints if len(each.base.strip("/")) > 1}
    return found | {str(settings.directory): "(jobs)", str(settings.carts.volume): "(carts)"}


def masked(text: str, instead: Mapping[str, str]) -> str:
    """Given a text and what `places` returned, return the text with no directory of this host in it."""
    for path in sorted(instead, key=len, reverse=True):
        text = text.replace(path, instead[path])
    return text


def _decoded(text: str) -> bool:
    """Tell whether lone surrogates of a text all are bytes of a file name (os.fsdecode), and nothing else."""
    return all("\udc80" <= each <= "\udcff" for each in text if "\ud800" <= each <= "\udfff")
