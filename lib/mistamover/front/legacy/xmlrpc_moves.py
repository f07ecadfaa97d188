"""What a call of `move` asks for, in all its dialects: parameters checked in the order of old, with its reasons; pure.

Nothing is looked up here: whether a host is known, the desk says.  It never imports the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from mistamover.front.legacy.xmlrpc_words import Rejected

#: Schemes of sources and of destinations, beside those that the settings allow and importers bring.
SOURCE_SCHEMES = frozenset({"scp", "sftp", "http", "https", "ala", "swift", "swift+http", "swift+https"})
DESTINATION_SCHEMES = frozenset({"scp", "sftp", "swift", "swift+http", "swift+https"})

TOO_MANY_ALA = "Too many ALA jobs. Mixed sources can only contain a maximum of one ALA job."

_SSH = frozenset({"scp", "sftp"})

#: Characters of a value that a reason repeats.
_LONGEST_REPEATED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One end of a move: a URL, or a path on a host of the registry; exactly one of the two is set."""

    url: str = ""
    host: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What is asked for."""

    sources: Sequence[Place]
    destination: Place
    zipped: bool = False
    dialect: str = "url"
    """`url`, `struct`, or `swapped`: whose words the reasons of later refusals are in."""


def asked(source: object, destination: object, zipped: object = None) -> Move:
    """Given the parameters of a call, return what it asks for. Raise Rejected with the reason otherwise."""
    if source is None or destination is None:
        raise _missing("source and destination must not be None")
    if _is_swapped(source, destination):
        return _swapped(destination, source)
    if isinstance(source, dict) or (isinstance(destination, dict) and not isinstance(source, str | list)):
        return _structs(source, destination, zipped)
    sources = _urls(source)
    place = _destination_url(destination)
    return Move(sources=sources, destination=place, zipped=_zip(zipped))


def is_ala(place: Place) -> bool:
    """Given a source, tell whether it is an occurrence record of the ALA."""
    return _scheme(place.url) == "ala"


def ala_url(lsid: str) -> str:
    """Given an LSID, return the URL that the importer takes."""
    return f"ala://ala?lsid={quote(lsid, safe='')}"


# ---- URLs ----


def _urls(source: object) -> list[Place]:
    if not isinstance(source, str | list):
        raise _invalid("source must be of type str or list")
    listed = source if isinstance(source, list) else [source]
    if not listed:
        raise _invalid("no sources selected")
    places = [_source_url(one) for one in listed]
    if sum(map(is_ala, places)) > 1:
        raise Rejected(TOO_MANY_ALA)
    return places


def _source_url(url: object) -> Place:
    if not isinstance(url, str):
        raise Rejected(f"Unknown source type '{_repeated(url)}'")
    parts = _split(url)
    scheme = parts.scheme if parts else ""
    if parts is None or scheme not in SOURCE_SCHEMES:
        raise Rejected(f"Unknown source URL scheme '{scheme}'")
    if scheme in _SSH:
        _need_host_and_path(parts, "source")
    elif scheme == "ala":
        _need_lsid(parts)
    elif scheme.startswith("swift"):
        _need_swift_path(parts, "source")
    elif not parts.netloc:
        raise Rejected("Host not specified in 'source'")
    return Place(url=url)


def _destination_url(url: object) -> Place:
    if not isinstance(url, str):
        raise _missing("destination must be of type str")
    parts = _split(url)
    scheme = parts.scheme if parts else ""
    if parts is None or scheme not in DESTINATION_SCHEMES:
        raise Rejected(f"Unknown destination URL scheme '{scheme}'")
    if scheme in _SSH:
        _need_host_and_path(parts, "destination")
    else:
        _need_swift_path(parts, "destination")
    return Place(url=url)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # such as a bracket that is not closed
        return None
    return parts


def _scheme(url: str) -> str:
    parts = _split(url)
    return parts.scheme if parts else ""


def _need_host_and_path(parts: SplitResult, end: str) -> None:
    if not parts.hostname:
        raise Rejected(f"Host not specified in '{end}'")
    if not parts.path:
        raise Rejected(f"Path not specified in '{end}'")


def _need_lsid(parts: SplitResult) -> None:
    """The two forms of such a URL: `lsid=..` names one species, `query=..` whatever the site finds with it."""
    given = parse_qs(parts.query)
    if not given.get("lsid") and not given.get("query"):
        raise _missing("source ALA LSID")


def _need_swift_path(parts: SplitResult, end: str) -> None:
    container, _, content = parts.path.strip("/").partition("/")
    if not container or not content:
        raise Rejected(f"Invalid swift path in '{end}'")


def _zip(zipped: object) -> bool:
    if zipped is None:
        return False
    if not isinstance(zipped, bool):
        raise _invalid("zip must be of type bool")
    return zipped


# ---- structs, the source first ----


def _structs(source: object, destination: object, zipped: object) -> Move:
    if not isinstance(source, dict):
        raise _missing("source must be of type dict")
    if not source.get("type"):
        raise _missing("source must specify a type")
    places = _struct_sources(source)
    if not isinstance(destination, dict):
        raise _missing("destination must be of type dict")
    host, path = destination.get("host"), destination.get("path")
    if not _text(host) or not _text(path):
        raise _missing("destination must specify a host and path")
    inside = _zip(destination.get("zip"))
    return Move(
        sources=places,
        destination=Place(host=str(host), path=str(path)),
        zipped=_zip(zipped) or inside,
        dialect="struct",
    )


def _struct_sources(source: Mapping[object, object]) -> list[Place]:
    if source["type"] != "mixed":
        return [_struct_source(source)]
    if "sources" not in source or source["sources"] is None:
        raise _missing("sources must be provided with mixed source")
    listed = source["sources"]
    if not isinstance(listed, list):
        raise _missing("sources must be of list type")
    if not listed:
        raise _invalid("no sources selected")
    places = []
    for one in listed:
        if not isinstance(one, dict):
            raise _missing("source must be of type dict")
        if not one.get("type"):
            raise _missing("source must specify a type")
        if one["type"] == "mixed":
            raise _invalid("mixed sources may not be nested")
        places.append(_struct_source(one))
    if sum(map(is_ala, places)) > 1:
        raise Rejected(TOO_MANY_ALA)
    return places


def _struct_source(source: Mapping[object, object]) -> Place:
    kind = source["type"]
    makers: dict[object, Callable[[Mapping[object, object]], Place]] = {
        "ala": _ala_struct,
        "url": _url_struct,
        "scp": _scp_struct,
    }
    maker = makers.get(kind) if isinstance(kind, str) else None
    if maker is None:
        raise Rejected(f"Unknown source type '{_repeated(kind)}'")
    return maker(source)


def _ala_struct(source: Mapping[object, object]) -> Place:
    lsid = source.get("lsid")
    if not _text(lsid):
        raise _missing("lsid must be provided with ala source")
    return Place(url=ala_url(str(lsid)))


def _url_struct(source: Mapping[object, object]) -> Place:
    url = source.get("url")
    if not _text(url):
        raise _missing("url must be provided with url source")
    return Place(url=str(url))


def _scp_struct(source: Mapping[object, object]) -> Place:
    host, path = source.get("host"), source.get("path")
    if not _text(host) or not _text(path):
        raise _missing("host and path must be provided with scp source")
    return Place(host=str(host), path=str(path))


# ---- structs, the destination first ----


def _is_swapped(first: object, second: object) -> bool:
    return isinstance(first, dict) and isinstance(second, dict) and "type" in second and "type" not in first


def _swapped(source: object, destination: object) -> Move:
    """The oldest form with a use; it knew three reasons in all."""
    assert isinstance(source, dict) and isinstance(destination, dict)
    kind, identity = source.get("type"), source.get("id")
    host, path = destination.get("host"), destination.get("path")
    if not kind or not identity or not host or not path:
        raise Rejected("Missing or incorrect parameters")
    if not all(isinstance(value, str) for value in (kind, identity, host, path)):
        raise Rejected("Invalid parameters")
    if kind not in ("url", "ala"):
        raise Rejected(f"Unknown source type {_repeated(kind)}")
    url = ala_url(str(identity)) if kind == "ala" else str(identity)
    return Move(sources=[Place(url=url)], destination=Place(host=str(host), path=str(path)), dialect="swapped")


# ---- words ----


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _repeated(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_REPEATED else text[:_LONGEST_REPEATED] + "..."


def _missing(what: str) -> Rejected:
    return Rejected(f"Missing or incorrect parameter '{what}'")


def _invalid(what: str) -> Rejected:
    return Rejected(f"Invalid parameter '{what}'")
