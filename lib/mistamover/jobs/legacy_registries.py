"""Registries of destinations and machines of older services, turned into endpoints of an INI file. Pure.

The JSON of the BCCVL data mover maps names to `ip-address`, `protocol` and `authentication`; the YAML of the VESTEC
data manager maps names to `host`, `username`, `SSHkey` and `basedir`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from mistamover.config import endpoint_urls
from mistamover.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECTION = re.compile(r"\s*\[(?!\[)\s*([^\]]*?)\s*\]\s*(#.*)?$")
_SUBSECTION = re.compile(r"\s*\[\[(?!\[)\s*([^\]]*?)\s*\]\]\s*(#.*)?$")

_ENDPOINTS = "endpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One endpoint, as it is to be written."""

    name: str
    url: str
    description: str = ""
    identity_file: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the lines of its subsection."""
        yield f"  [[{self.name}]]"
        if self.description:
            yield f"  description = {_quoted(self.description)}"
        yield f"  url = {_quoted(self.url)}"
        if self.identity_file:
            yield f"  identity_file = {_quoted(self.identity_file)}"


def destinations(text: str, *, base: str, local_base: str) -> list[Found]:
    """Given the JSON of a registry of destinations, the directory that jobs never leave at the hosts in it, and the one
    on this host (empty: none), return the endpoints. Raise UsageError.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise UsageError(f"it is not JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise UsageError("expected a JSON array of objects, each of which maps names to destinations")
    found: dict[str, Found] = {}
    for entry in entries:
        for name, record in entry.items():
            # Of two with the same name the first one counted.
            found.setdefault(str(name), _destination(str(name), record, base, local_base))
    return list(found.values())


def machines(text: str) -> list[Found]:
    """Given the YAML of a registry of machines, return the endpoints. Raise UsageError."""
    import yaml

    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"it is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, Mapping):
        raise UsageError("expected YAML that maps names to machines")
    return [_machine(str(name), record) for name, record in entries.items()]


def as_ini(found: Sequence[Found]) -> str:
    """Given endpoints, return the section that holds them."""
    return "\n".join([f"[{_ENDPOINTS}]", *(line for each in found for line in each.lines())]) + "\n"


def added(text: str, found: Sequence[Found]) -> str:
    """Given the text of an INI file and endpoints, return it with these at the end of its section of endpoints.

    Raise UsageError if it has one of them already.
    """
    lines = text.splitlines()
    begin = next((number for number, line in enumerate(lines) if _is_section(line, _ENDPOINTS)), None)
    if begin is None:
        return (
            text + ("" if not text or text.endswith("\n\n") else "\n" * (1 + (not text.endswith("\n")))) + as_ini(found)
        )
    end = next((number for number in range(begin + 1, len(lines)) if _SECTION.match(lines[number])), len(lines))
    there = {match[1].strip("\"'") for line in lines[begin:end] if (match := _SUBSECTION.match(line))}
    twice = [each.name for each in found if each.name in there]
    if twice:
        raise UsageError(f"the file has these endpoints already: {', '.join(twice)}")
    # What stands before the next section is mostly about that.
    while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    more = [line for each in found for line in each.lines()]
    return "\n".join([*lines[:end], *more, *lines[end:]]) + "\n"


# -- inside -----------------------------------------------------------------------------------


def _destination(name: str, record: object, base: str, local_base: str) -> Found:
    values = _record(name, record)
    protocol = str(values.get("protocol", ""))
    description = str(values.get("description") or "")
    if protocol == "local":
        if not local_base:
            raise UsageError(f"{name} is this host: say by --local-base which directory jobs may use here")
        return _checked(Found(name=name, url=f"file://{quote(local_base)}", description=description))
    if protocol != "scp":
        raise UsageError(f"{name} has the protocol {protocol!r}, expected scp or local")
    host = str(values.get("ip-address") or "")
    login = values.get("authentication")
    keyed = login.get("key-based") if isinstance(login, Mapping) else None
    user = str(keyed.get("username") or "") if isinstance(keyed, Mapping) else ""
    return _checked(Found(name=name, url=_ssh(user, host, base), description=description))


def _machine(name: str, record: object) -> Found:
    values = _record(name, record)
    key = str(values.get("SSHkey") or "")
    if key and "/" not in key:
        key = f"~/.ssh/{key}"
    url = _ssh(str(values.get("username") or ""), str(values.get("host") or ""), str(values.get("basedir") or "/"))
    return _checked(Found(name=name, url=url, identity_file=key))


def _ssh(user: str, host: str, base: str) -> str:
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    home = "" if base.startswith("/") else "/~/"
    return f"sftp://{quote(user)}{'@' if user else ''}{host}{home}{quote(base)}"


def _record(name: str, record: object) -> Mapping[object, object]:
    if not isinstance(record, Mapping):
        raise UsageError(f"{name} is no record of keys and values")
    return record


def _checked(found: Found) -> Found:
    if not _NAME.fullmatch(found.name):
        words = "letters, digits, dots, dashes and underscores, a letter or digit first"
        raise UsageError(f"the name {found.name!r} cannot be that of an endpoint: expected {words}")
    try:
        endpoint_urls.parsed(found.url)
    except ValueError as error:
        raise UsageError(f"{found.name} cannot be an endpoint: {error}") from None
    return found


def _is_section(line: str, name: str) -> bool:
    match = _SECTION.match(line)
    return match is not None and match[1].strip("\"'") == name


def _quoted(value: str) -> str:
    line = " ".join(value.split())
    if not any(character in line for character in "#,\"'"):
        return line
    return f'"{line}"' if '"' not in line else "'" + line.replace("'", "’") + "'"
