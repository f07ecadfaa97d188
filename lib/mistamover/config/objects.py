"""From checked values of [s3] and [url] to the settings of targets that a URL names."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from mistamover.config import check
from mistamover.config.access import S3Access, UrlAccess
from mistamover.config.files import private, there
from mistamover.config.values import Values, quoted
from mistamover.errors import SecretError
from mistamover.files.private import read_private

_OUT, _S3, _URL = "outgoing", "s3", "url"
_AMAZON = "amazonaws.com"

#: Schemes of directories of this machine.
_LOCAL = frozenset(("file", "local"))
#: Schemes of fsspec whose filesystems rename a file over another in one step.
_RENAMING = _LOCAL | {"sftp", "ssh"}
#: Schemes of object stores: an object appears when its upload is finished, and not before.
_WHOLE = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci"))
#: What is kept in the memory of one process is lost with it.
_NO_TARGETS = frozenset(("memory",))


def s3_place(values: Values) -> tuple[str, str]:
    """Given the values of a stream, return the store and the bucket with its prefix, as they are shown."""
    parts = _url(values, "s3://BUCKET/PREFIX", "s3")
    endpoint = values.text(_S3, "endpoint_url")
    store = urlsplit(endpoint).netloc.rpartition("@")[2] if endpoint else _AMAZON
    return store, f"{parts.netloc}{parts.path.rstrip('/')}" if parts else ""


def s3_access(values: Values) -> S3Access | None:
    """Given the values of a stream, return how to get at its bucket; None if that is not said."""
    _installed(values, "botocore", "s3")
    parts = urlsplit(values.text(_OUT, "target_url") or "")
    prefix = parts.path.strip("/")
    endpoint = _endpoint(values)
    addressing = values.text(_S3, "addressing") or ""
    return S3Access(
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint_url=endpoint,
        region=values.text(_S3, "region"),
        profile=values.text(_S3, "profile"),
        secret_file=private(values, _S3, "secret_file"),
        ca_file=there(values, _S3, "ca_file"),
        addressing="path" if endpoint and addressing == "auto" else addressing,
    )


def url_place(values: Values) -> tuple[str, str]:
    """Given the values of a stream, return the server and the directory, as they are shown."""
    parts = _url(values, "SCHEME://HOST/DIRECTORY", "")
    return (f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/") or "/") if parts else ("", "")


def url_access(values: Values) -> UrlAccess | None:
    """Given the values of a stream, return how to get at its filesystem; None if that is not said."""
    _installed(values, "fsspec", "url")
    url = values.text(_OUT, "target_url") or ""
    scheme = urlsplit(url).scheme
    atomic = values.text(_URL, "atomic")
    if scheme in _NO_TARGETS:
        message = f"{scheme}:// is lost with the process that writes there, expected a place that lasts"
        values.problem(_OUT, "target_url", message)
    elif scheme and "::" not in url and atomic is None and scheme not in _RENAMING | _WHOLE:
        message = f"it is not known how a file appears at {scheme}:// targets, expected [url] atomic as well"
        hint = "read what [url] atomic means; use the protocol ftp or rsync_ssh where they will do"
        values.problem(_OUT, "target_url", message, hint)
    if scheme in _LOCAL:
        _apart(values, urlsplit(url).path)
    return UrlAccess(
        url=url.rstrip("/"),
        renames=atomic == "rename" if atomic else scheme in _RENAMING,
        parents=scheme not in _WHOLE,
        options_file=_options_file(values),
    )


def has_directories(values: Values) -> bool:
    """Given the values of a stream whose protocol is url, return whether whole directories can be sent."""
    scheme = urlsplit(values.text(_OUT, "target_url") or "").scheme
    return (values.text(_URL, "atomic") or ("rename" if scheme in _RENAMING else "")) == "rename"


def options(path: Path) -> dict[str, object]:
    """Given a private file, return the options that it holds. Raise SecretError if it holds none that can be read."""
    lines = read_private(path)
    if "".join(lines).lstrip().startswith("{"):
        try:
            value = json.loads("\n".join(lines))
        except ValueError:
            raise SecretError(f"{path} is not JSON") from None
        return dict(value)
    found: dict[str, object] = {}
    for line in (line.strip() for line in lines):
        key, equals, text = line.partition("=")
        if equals and key.strip():
            found[key.strip()] = text.strip()
        elif line and line[0] not in "#;[":
            raise SecretError(f"{path} has a line that is not KEY = VALUE")
    return found


def _options_file(values: Values) -> Path | None:
    path = private(values, _URL, "options_file")
    if path is not None and path.is_file():
        try:
            options(path)
        except SecretError as error:
            # Others being able to read it was said before.
            if "chmod" not in str(error):
                values.problem(_URL, "options_file", f"{error}, expected a JSON object or lines KEY = VALUE")
    return path


def _apart(values: Values, directory: str) -> None:
    """Given a directory of this machine, report it if it and the stream's own lie in one another."""
    source = values.path("data_stream", "directory")
    if source is not None and directory:
        here, there_ = os.path.realpath(source), os.path.realpath(directory)
        if os.path.commonpath([here, there_]) in (here, there_):
            message = f"{directory} and the stream's directory {source} lie in one another, expected two separate ones"
            values.problem(_OUT, "target_url", message, "deliver into another directory")


def _installed(values: Values, package: str, extra: str) -> None:
    """Report a library that is missing; it is not loaded here.  Once it is loaded it may have no spec to be found."""
    if package not in sys.modules and find_spec(package) is None:
        message = f"{extra} needs the package {package}, which is not installed"
        values.problem(_OUT, "transfer_protocol", message, f"pip install mistamover[{extra}]")


def _endpoint(values: Values) -> str | None:
    url = values.text(_S3, "endpoint_url")
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not _is_host(parts) or parts.username is not None:
        values.problem(_S3, "endpoint_url", "is not the URL of a store, expected https://HOST or https://HOST:PORT")
    elif parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        values.warn(_S3, "endpoint_url", "the data travel in the clear", "use https://")
    return url


def _is_host(parts: SplitResult) -> bool:
    try:
        return bool(check.host(parts.hostname or "")) and parts.port != 0
    except (check.CheckError, ValueError):
        return False


def _url(values: Values, form: str, scheme: str) -> SplitResult | None:
    """Return the parts of the URL, or None; the value is not repeated in a report where it may hold a password."""
    values.require(_OUT, "target_url", form)
    url = values.text(_OUT, "target_url")
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.password is not None or "?" in url or "#" in url or "::" in url:
        hint = "put what else is needed into the private file that the section of the protocol names"
        values.problem(_OUT, "target_url", f"holds more than a place, expected {form}", hint)
    elif not parts.scheme or "://" not in url or (scheme and (parts.scheme != scheme or not parts.netloc)):
        values.problem(_OUT, "target_url", f"{quoted(url)} is not a URL of that kind, expected {form}")
    else:
        return parts
    return None
