"""The options of a request: checked, and what is secret in them taken apart from what may be shown. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping

from mistamover.errors import JobRefused

#: How clients call what logs them in at a source.
_SECRETS = {
    "user": "user",
    "username": "user",
    "password": "password",
    "token": "token",
    "cookie": "cookies",
    "cookies": "cookies",
    "headers": "headers",
}
_PLAIN = {"recursive": bool}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Headers that are ours to set: another value would say something else than the request does.
_OURS = frozenset(("host", "connection", "content-length", "transfer-encoding", "range", "if-range", "accept-encoding"))

#: Characters of all that is sent along.
_LONGEST = 16 << 10

#: How long a hash is, in hexadecimal digits.
HASHES = {
    "md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128,
    "sha3_256": 64, "sha3_512": 128, "blake2b": 128, "blake2s": 64, "xxh128": 32,
}  # fmt: skip


def split(options: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """Given options as a client wrote them, return those that may be shown, and those that are secret.

    Raise JobRefused (`bad-option`).
    """
    plain: dict[str, object] = {}
    secrets: dict[str, str] = {}
    for name, value in options.items():
        if name in _PLAIN:
            if not isinstance(value, _PLAIN[name]):
                raise _bad(f"the option {name} is {_PLAIN[name].__name__}, true or false")
            plain[name] = value
        elif name in _SECRETS:
            secrets[_SECRETS[name]] = _secret(_SECRETS[name], value)
        else:
            near = difflib.get_close_matches(name, [*_PLAIN, *_SECRETS], n=1)
            hint = f"; did you mean {near[0]}?" if near else f": there are {', '.join(sorted([*_PLAIN, *_SECRETS]))}"
            raise _bad(f"there is no option {name[:40]!r}{hint}")
    return plain, secrets


def headers(secrets: Mapping[str, str]) -> dict[str, str]:
    """Given a job's secrets, return the headers that they stand for, beyond those of user and password."""
    found: dict[str, str] = dict(json.loads(secrets["headers"])) if "headers" in secrets else {}
    if "cookies" in secrets:
        found["Cookie"] = secrets["cookies"]
    if "token" in secrets:
        found["Authorization"] = f"Bearer {secrets['token']}"
    return found


def checked_hash(kind: str, value: str) -> tuple[str, str]:
    """Given a hash as a client wrote it, return its algorithm and digits, as we write them; both empty for none.

    Raise JobRefused (`unsupported-hash`, `bad-hash`).
    """
    name = kind.strip().lower()
    name = name.replace("-", "", 1) if name.startswith(("sha-", "md-")) else name.replace("-", "_")
    digits = value.strip().lower()
    if not name and not digits:
        return "", ""
    if name not in HASHES:
        raise JobRefused("unsupported-hash", f"the hash {kind[:40]!r} is not known: there are {', '.join(HASHES)}")
    if digits and (len(digits) != HASHES[name] or re.fullmatch("[0-9a-f]+", digits) is None):
        raise JobRefused("bad-hash", f"a {name} has {HASHES[name]} hexadecimal digits")
    return name, digits


def _secret(name: str, value: object) -> str:
    if name == "headers":
        return json.dumps(_pairs(name, value))
    if name == "cookies" and isinstance(value, Mapping):
        # One cookie with its attributes, as some clients keep it, or names and values.
        pairs = {str(value["name"]): value["value"]} if {"name", "value"} <= set(value) else value
        return _text(name, "; ".join(f"{key}={text}" for key, text in _pairs(name, pairs).items()))
    return _text(name, value)


def _pairs(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _bad(f"the option {name} holds names and values")
    found = {}
    for key, text in value.items():
        if not isinstance(key, str) or _TOKEN.fullmatch(key) is None:
            raise _bad(f"the option {name} holds a name that is none")
        if name == "headers" and key.lower() in _OURS:
            raise _bad(f"the header {key} cannot be chosen")
        found[key] = _text(name, text)
    return found


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise _bad(f"the option {name} is a text of at most {_LONGEST} characters")
    if any(not (character.isprintable() or character == "\t") for character in value):
        raise _bad(f"the option {name} holds characters that cannot be printed")
    return value


def _bad(words: str) -> JobRefused:
    return JobRefused("bad-option", words)
