"""From checked values of [carts] to its settings: the archive that files come from, and the volume that they lie in.

Where the file is silent, the variables count by which the data cart was set up.  Looks at the file system only to
compare resolved paths.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from mistamover.config import check, endpoint_urls
from mistamover.config.expand import Entry, Place
from mistamover.config.serving import CartSettings, EndpointSettings
from mistamover.config.territory import inside
from mistamover.config.values import Values, quoted

CARTS = "carts"

#: The endpoint that a URL in place of an endpoint's name becomes.
_IMPLICIT = "archive"

#: The variables of the data cart, and the keys that they are read as.
_VARIABLES = {
    "ARCHIVE_INTERFACE_URL": "archive",
    "VOLUME_PATH": "volume_path",
    "LRU_BUFFER_TIME": "lru_buffer_time",
    "BUNDLE_TASK": "bundle",
}


def defaults_of(environ: Mapping[str, str], sections: Container[str]) -> Iterator[Entry]:
    """Given the environment, and the sections of the file, yield the defaults of [carts] that it sets.

    There are none where nothing listens for carts: the variables have names that others may use as well.
    """
    if "front" not in sections and CARTS not in sections:
        return
    for name, key in _VARIABLES.items():
        text = environ.get(name, "").strip()
        if text and text.isprintable():
            if key == "archive" and "://" not in text:
                text = f"http://{text}"
            yield Entry(place=Place(CARTS, key), text=text, file=f"environment {name}", line=None)


def build_carts(
    values: Values, directory: Path, endpoints: Sequence[EndpointSettings], own: Sequence[Path]
) -> tuple[CartSettings, tuple[EndpointSettings, ...]]:
    """Given the values of the service, the directory of jobs, all endpoints, and paths of the service's own, return the
    settings of carts, and all endpoints with the one that these may add.
    """
    volume = values.path(CARTS, "volume_path")
    if volume is not None:
        volume = Path(os.path.abspath(volume))
        _check_volume(values, volume, endpoints, own)
    archive, more = _archive(values, endpoints)
    settings = CartSettings(
        volume=volume or directory / "carts",
        archive=archive,
        quota=values.whole(CARTS, "quota") or 0,
        lru_buffer_time=values.amount(CARTS, "lru_buffer_time"),
        bundle=values.flag(CARTS, "bundle"),
        manifest=values.flag(CARTS, "manifest"),
        max_files=values.whole(CARTS, "max_files") or 1,
        pulls=values.whole(CARTS, "pulls") or 1,
        stage_timeout=values.amount(CARTS, "stage_timeout"),
    )
    return settings, (*endpoints, *more)


def _archive(values: Values, endpoints: Sequence[EndpointSettings]) -> tuple[str, tuple[EndpointSettings] | tuple[()]]:
    """Return the name of the endpoint that carts come from, and the endpoint itself if it is a new one."""
    written = values.text(CARTS, "archive") or ""
    names = [endpoint.name for endpoint in endpoints]
    if "://" not in written:
        if written and written not in names:
            hint = check.did_you_mean(written, names) or f"write [[{written}]] below [endpoints], with its url"
            values.problem(CARTS, "archive", f"{quoted(written)} is not an endpoint of this file", hint)
        return written, ()
    scheme = written.partition("://")[0].lower()
    url = written if scheme in endpoint_urls.PACIFICA else f"pacifica+{written}"
    expected = "expected the name of an endpoint, or http://HOST:PORT/"
    try:
        parts = endpoint_urls.parsed(url)
    except ValueError as error:
        values.problem(CARTS, "archive", f"cannot be used: {error}; {expected}")
        return "", ()
    if parts.scheme not in endpoint_urls.PACIFICA or parts.url != url:
        values.problem(CARTS, "archive", f"is no URL of an archive interface that holds no password, {expected}")
        return "", ()
    if _IMPLICIT in names:
        message = f"is a URL, and there is an endpoint {_IMPLICIT} already, expected the name of an endpoint"
        values.problem(CARTS, "archive", message, f"set archive = {_IMPLICIT} to use that one")
        return _IMPLICIT, ()
    new = EndpointSettings(
        name=_IMPLICIT,
        url=parts.url,
        scheme=parts.scheme,
        host=parts.host,
        port=parts.port,
        user=parts.user,
        base=parts.base,
        description="the archive of carts",
        role="archive",
        read_only=True,
    )
    return _IMPLICIT, (new,)


def _check_volume(values: Values, volume: Path, endpoints: Sequence[EndpointSettings], own: Sequence[Path]) -> None:
    """Report a volume that holds what is not of carts, or lies where clients can reach it."""
    message = ""
    if any(inside(volume, (("", path),)) for path in own):
        message = f"{volume} holds the service's own files"
    for endpoint in endpoints:
        if endpoint.scheme != "file":
            continue
        base = Path(endpoint.base)
        if inside(base, (("", volume),)) or inside(volume, (("", base),)):
            message = f"{volume} and the directory {base} of the endpoint {endpoint.name} lie in each other"
    if message:
        hint = "name another directory, or move the other one"
        values.problem(CARTS, "volume_path", f"{message}, expected a directory that is for carts alone", hint)
