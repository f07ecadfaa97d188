"""From [endpoints] and its subsections to the places that jobs know by name.

Looks at the file system only to see whether a named file or directory is there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from mistamover.config import check, endpoint_urls, schema
from mistamover.config.endpoint_urls import EndpointUrl
from mistamover.config.entries import ENDPOINTS_IN
from mistamover.config.expand import Context, Entry, Place
from mistamover.config.files import private, there
from mistamover.config.read import IniFile
from mistamover.config.report import Report
from mistamover.config.serving import EndpointSettings
from mistamover.config.territory import inside
from mistamover.config.values import Values, quoted
from mistamover.errors import Problem

#: Schemes that are only read from.
READ_ONLY_SCHEMES = ("http", "https", *endpoint_urls.PACIFICA)

_OWN_SCHEMES = ("file", *sorted(endpoint_urls.SSH), "ftp", "ftps", "s3", *READ_ONLY_SCHEMES)
_OF_SSH = ("identity_file", "ssh_config", "accept_new_host_keys")
_OF_ONE = ("url", "base")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EXPECTED = "expected file:///DIRECTORY, sftp://USER@HOST/DIRECTORY or another URL of a place"


def is_name(text: str) -> bool:
    """Given any text, return whether an endpoint may be called so."""
    return _NAME.fullmatch(text) is not None


def build_endpoints(service: Values, ini: IniFile, own: Sequence[Path]) -> tuple[EndpointSettings, ...]:
    """Given the values of the service, the global file, and paths of the service's own, return all endpoints."""
    for key in _OF_ONE:
        if service.is_set(ENDPOINTS_IN, key):
            message = "stands above all subsections, expected it in each of them"
            service.problem(ENDPOINTS_IN, key, message, f"write [[NAME]] before it, and {key} below that")
    section = ini.config.get(ENDPOINTS_IN)
    names = section.sections if section is not None else ()
    found = (_endpoint(name, service, ini, own) for name in names)
    return tuple(endpoint for endpoint in found if endpoint is not None)


class _Renaming(Report):
    """Tells findings about one endpoint as those of its subsection; what was found for the service was told before."""

    def __init__(self, outer: Report, section: str, keys: Sequence[str]) -> None:
        super().__init__()
        self._outer, self._section, self._keys = outer, section, keys

    def problem(self, problem: Problem, stream: str = "") -> None:
        if problem.section == ENDPOINTS_IN:
            self._outer.problem(self._named(problem))

    def warn(self, warning: Problem) -> None:
        if warning.section == ENDPOINTS_IN:
            self._outer.warn(self._named(warning))

    def _named(self, problem: Problem) -> Problem:
        return replace(problem, section=self._section) if problem.key in self._keys else problem


def _endpoint(name: str, service: Values, ini: IniFile, own: Sequence[Path]) -> EndpointSettings | None:
    """Return what the subsection of an endpoint says; None if it cannot be told where it is."""
    where = f"{ENDPOINTS_IN}/{name}"

    def complain(key: str, message: str, hint: str = "") -> None:
        line = ini.origins.get((where, key), ini.origins[where, ""])
        problem = Problem(file=str(ini.path), line=line, section=where, key=key, message=message, hint=hint)
        service.report.problem(problem)

    if not is_name(name):
        message = f"the name {quoted(name)} cannot be used, expected at most 64 letters, digits, dots, dashes and "
        complain("", f"{message}underscores, a letter or digit first", "choose another name")
        return None
    written = ini.config[ENDPOINTS_IN][name]
    for sub in written.sections:
        complain("", f"has a subsection {quoted(sub)}, expected keys only", "write [[NAME]] with two pairs of brackets")
    known = schema.keys(ENDPOINTS_IN)
    for key in written.scalars:
        if key not in known:
            hint = check.did_you_mean(key, known)
            complain(key, "unknown key of an endpoint", _LOGIN_HINT if key == "password" else hint)
    keys = [key for key in written.scalars if key in known]
    overlay = [
        Entry(place=Place(ENDPOINTS_IN, key), text=written[key], file=str(ini.path), line=ini.origins[where, key])
        for key in keys
    ]
    values = Values(
        Context(overlay, inherits=service.context),
        file=service.file,
        base=service.base,
        report=_Renaming(service.report, where, keys),
    )
    if "url" not in keys or not values.has(ENDPOINTS_IN, "url"):
        if not values.is_set(ENDPOINTS_IN, "url"):
            complain("url", f"is not set, {_EXPECTED}", f"add url = ... below [[{name}]]")
        return None
    url = _url(values)
    return _built(name, values, url, own) if url is not None else None


_LOGIN_HINT = "put the password into a file that only its owner can read, and name it in password_file"


def _built(name: str, values: Values, url: EndpointUrl, own: Sequence[Path]) -> EndpointSettings:
    scheme = url.scheme
    for key in _OF_SSH:
        if scheme != "sftp" and values.context.own(Place(ENDPOINTS_IN, key)) is not None:
            values.warn(ENDPOINTS_IN, key, f"has no effect: {scheme} does not go by ssh", "take the key out")
    read_only = scheme in READ_ONLY_SCHEMES
    role = values.text(ENDPOINTS_IN, "role") or "normal"
    if role == "archive" and read_only and scheme not in endpoint_urls.PACIFICA:
        message = f"is archive, and nothing can be written to {scheme}, expected normal"
        values.problem(ENDPOINTS_IN, "role", message)
    return EndpointSettings(
        name=name,
        url=url.url,
        scheme=scheme,
        host=url.host,
        port=url.port,
        user=url.user,
        base=_local_base(values, url, own) if scheme == "file" else _base(values, url),
        description=values.text(ENDPOINTS_IN, "description") or "",
        role=role,
        read_only=read_only or values.flag(ENDPOINTS_IN, "read_only"),
        enabled=values.flag(ENDPOINTS_IN, "enabled"),
        dry_run=values.flag(ENDPOINTS_IN, "dry_run"),
        max_parallel=values.whole(ENDPOINTS_IN, "max_parallel") or 1,
        identity_file=there(values, ENDPOINTS_IN, "identity_file"),
        ssh_config=there(values, ENDPOINTS_IN, "ssh_config"),
        password_file=private(values, ENDPOINTS_IN, "password_file"),
        accept_new_host_keys=values.flag(ENDPOINTS_IN, "accept_new_host_keys"),
        workers=_workers(values),
        options=_options(values),
    )


def _workers(values: Values) -> str:
    """Return the group of workers."""
    group = values.text(ENDPOINTS_IN, "workers") or ""
    if group and not is_name(group):
        message = f"{quoted(group)} is no name of a group, expected letters, digits, dots, dashes and underscores"
        values.problem(ENDPOINTS_IN, "workers", message)
    return group


def _url(values: Values) -> EndpointUrl | None:
    """Return the URL taken apart, or None; the value is not repeated in a report where it may hold a password."""
    written = values.text(ENDPOINTS_IN, "url") or ""
    try:
        url = endpoint_urls.parsed(written)
    except ValueError as error:
        values.problem(ENDPOINTS_IN, "url", f"cannot be used: {error}; {_EXPECTED}")
        return None
    if url.url != written:
        values.problem(ENDPOINTS_IN, "url", f"holds a password, {_EXPECTED} without one", _LOGIN_HINT)
        return None
    return url if _is_known(values, url.scheme) else None


def _is_known(values: Values, scheme: str) -> bool:
    """Whether there is something that can speak the scheme; the libraries themselves are not loaded here."""
    if scheme in _OWN_SCHEMES and scheme != "s3":
        return True
    package, extra = ("botocore", "s3") if scheme == "s3" else ("fsspec", "url")
    if scheme == "memory":
        message = "memory:// is lost with the process that writes there, expected a place that lasts"
        values.problem(ENDPOINTS_IN, "url", message)
    elif package not in sys.modules and find_spec(package) is None:
        message = f"the scheme {scheme} needs the package {package}, which is not installed"
        hint = check.did_you_mean(scheme, _OWN_SCHEMES) or f"pip install mistamover[{extra}]"
        values.problem(ENDPOINTS_IN, "url", message, hint)
    else:
        if near := (check.did_you_mean(scheme, _OWN_SCHEMES) if scheme not in _OWN_SCHEMES else ""):
            values.warn(ENDPOINTS_IN, "url", f"the scheme {scheme} is left to fsspec", near)
        return True
    return False


def _base(values: Values, url: EndpointUrl) -> str:
    """Return the directory at another host, with `base` in its place if that is set."""
    own = values.text(ENDPOINTS_IN, "base")
    if own is None:
        return url.base
    _check_upwards(values, own)
    parts = [part for part in own.split("/") if part not in ("", ".")]
    if not endpoint_urls.has_server(url.scheme):
        return "/".join(parts)
    if url.scheme == "sftp" and (parts[:1] == ["~"] or not own.startswith("/")):
        return "/".join(parts[1:] if parts[:1] == ["~"] else parts) or "."
    return "/" + "/".join(parts)


def _local_base(values: Values, url: EndpointUrl, own: Sequence[Path]) -> str:
    """Return the directory on this host, absolute."""
    written = values.text(ENDPOINTS_IN, "base")
    key = "url" if written is None else "base"
    try:
        directory = Path(os.path.abspath(url.base if written is None else values.base / check.path(written)))
    except check.CheckError as error:
        values.problem(ENDPOINTS_IN, key, f"{error.what}, expected a directory")
        return "/"
    state_dir = own[0]
    reason = inside(directory, (("the service's own", path) for path in own))
    if reason or inside(state_dir, (("", directory),)):
        message = f"{directory} holds the service's own files, or lies among them, expected a directory of data only"
        values.problem(ENDPOINTS_IN, key, message, "name another directory, or move state_dir")
    elif not directory.is_dir():
        values.warn(ENDPOINTS_IN, key, f"there is no directory {directory}", "make it or correct the path")
    return str(directory)


def _check_upwards(values: Values, directory: str) -> None:
    if ".." in directory.split("/"):
        values.problem(ENDPOINTS_IN, "base", f"{quoted(directory)} leads upwards, expected a directory without ..")


def _options(values: Values) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in values.words(ENDPOINTS_IN, "options"):
        name, equals, value = word.partition("=")
        if not equals or not name:
            message = f"{quoted(name)} has no value, expected NAME=VALUE"
            values.problem(ENDPOINTS_IN, "options", message, "put = and a value behind each name")
        options[name] = value
    return options
