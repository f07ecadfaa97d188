"""What clients want of a cart, checked; pure, and never looked at on any disk or at an archive."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mistamover.errors import JobRefused
from mistamover.files import digests
from mistamover.jobs import paths
from mistamover.jobs.cart_model import BundleFormat, BundleLayout, CartFile

_UID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")

#: First parts of paths that are others' where carts are at the root; in lower case.
RESERVED: Final = frozenset(
    (
        "api", "rpc2", "data_mover", "dm", "msm", "cart", "carts", "metrics", "health", "status", "static",
        "favicon.ico", "robots.txt",
    )
)  # fmt: skip

#: The hash of a manifest where files were given several, or none.
_USUAL: Final = "sha256"

#: Bytes of a path in a bundle, which has the volume in front of it on the disk, and the directories it may be in.
_LONGEST_PATH: Final = 3_000
_DEEPEST: Final = 100

#: Characters of an id.
_LONGEST_ID: Final = 4_000

#: Characters of a hash that is none, as it is shown.
_SHOWN: Final = 64

_HEXADECIMAL: Final = re.compile(r"[0-9a-f]+")


def is_uid(uid: str) -> bool:
    """Given a text, tell whether a cart can have it as its uid."""
    return _UID.fullmatch(uid) is not None


def checked_uid(uid: str, *, at_root: bool) -> str:
    """Given a uid, and whether carts are at the root, return it. Raise JobRefused (`bad-uid`)."""
    if not is_uid(uid):
        words = "a uid has letters, digits, `.`, `_` and `-`, no dot in front, and 255 characters at most"
        raise JobRefused("bad-uid", words)
    if at_root and uid.lower() in RESERVED:
        raise JobRefused("bad-uid", f"the uid {uid} is not free: something else is at /{uid}")
    return uid


def checked_files(files: Sequence[CartFile], most: int, *, any_hash: bool = False) -> list[CartFile]:
    """Given the files of a cart, and how many there may be, return them with clean paths and hashes.

    With `any_hash` one that nobody knows, or of a wrong length, stays as it is: it fits nothing.
    Raise JobRefused (`no-files`, `too-many-files`, `bad-path`, `same-path`, `bad-hash`, `unsupported-hash`, `bad-id`).
    """
    if not files:
        raise JobRefused("no-files", "a cart holds at least one file: fileids is empty")
    if len(files) > most:
        raise JobRefused("too-many-files", f"there are {len(files)} files, and {most} are allowed: make several carts")
    kinds: dict[str, tuple[str, int]] = {}
    found = [_checked(file, kinds, any_hash=any_hash) for file in files]
    _check_apart([file.path for file in found])
    return found


def common_hash(files: Sequence[CartFile]) -> str:
    """Given checked files, return the hash that all of them were given, or else the usual one."""
    kinds = {file.hash_type for file in files}
    kind = kinds.pop() if len(kinds) == 1 else ""
    return kind if kind and digests.is_known(kind) else _USUAL


def check_free(files: Sequence[CartFile], name: str) -> None:
    """Given checked files, and a name that ours will have beside them, return if it is free.

    Raise JobRefused (`same-path`).
    """
    if any(paths.is_inside(file.path, name) for file in files):
        words = f"the path {name} belongs to the manifest of the bundle: call the file another way, or ask for none"
        raise JobRefused("same-path", words)


def checked_format(word: str) -> BundleFormat:
    """Given the word for a format, return it. Raise JobRefused (`bad-format`)."""
    if word not in list(BundleFormat):
        raise JobRefused("bad-format", f"there is no format {word[:40]!r}: there are {', '.join(BundleFormat)}")
    return BundleFormat(word)


def checked_layout(word: str) -> BundleLayout:
    """Given the word for a layout, return it. Raise JobRefused (`bad-format`)."""
    if word not in list(BundleLayout):
        raise JobRefused("bad-format", f"there is no layout {word[:40]!r}: there are {', '.join(BundleLayout)}")
    return BundleLayout(word)


def _checked(file: CartFile, kinds: dict[str, tuple[str, int]], *, any_hash: bool) -> CartFile:
    if not file.id or len(file.id) > _LONGEST_ID:
        raise JobRefused("bad-id", f"the id of a file has 1 to {_LONGEST_ID} characters")
    if not _encodable(file.id):
        raise JobRefused("bad-id", "the id of a file holds half a character")
    kind, value = _hash(file, kinds, any_hash=any_hash)
    return replace(file, path=_path(file.path), hash_type=kind, hash_value=value)


def _path(path: str) -> str:
    # One slash in front means nothing; two would be the root for some who take the bundle apart.
    inside = path.removeprefix("/")
    if inside.startswith("/"):
        raise _bad(path, "it begins with two slashes")
    if inside.endswith("/"):
        raise _bad(path, "it ends with a slash, and so names a directory")
    if not _encodable(inside):
        raise _bad(path, "it holds half a character")
    clean = paths.cleaned(inside)
    # Some who take bundles apart take a backslash for a slash.
    if ".." in re.split(r"[/\\]", clean):
        raise _bad(path, "`..` is not allowed")
    if len(os.fsencode(clean)) > _LONGEST_PATH:
        raise _bad(path, f"it has more than {_LONGEST_PATH} bytes")
    # Whoever removes it, or takes it apart, may need a descriptor for each.
    if clean.count("/") > _DEEPEST:
        raise _bad(path, f"it lies in more than {_DEEPEST} directories")
    return clean


def _check_apart(found: Sequence[str]) -> None:
    """Return if no path is there twice, and none is that of a directory that another one is in."""
    files: set[str] = set()
    for path in found:
        if path in files:
            raise JobRefused("same-path", f"the path {paths.shown(path)!r} is there twice")
        files.add(path)
    above: set[str] = set()
    for path in found:
        directory = paths.parent(path)
        while directory and directory not in above:
            if directory in files:
                words = f"the path {paths.shown(directory)!r} is that of a file, and of a directory with others in it"
                raise JobRefused("same-path", words)
            above.add(directory)
            directory = paths.parent(directory)


def _hash(file: CartFile, kinds: dict[str, tuple[str, int]], *, any_hash: bool) -> tuple[str, str]:
    written, digits = file.hash_type.strip(), file.hash_value.strip().lower()
    if not written:
        if digits:
            raise JobRefused("bad-hash", "a file has a hash (hashsum), and not its type (hashtype)")
        return "", ""
    if written not in kinds:
        kinds[written] = _kind(written, any_hash=any_hash)
    name, length = kinds[written]
    if digits and (len(digits) != length or _HEXADECIMAL.fullmatch(digits) is None):
        if not any_hash:
            raise JobRefused("bad-hash", f"a {name} has {length} hexadecimal digits")
        digits = _odd(digits)
    return name, digits


def _odd(text: str) -> str:
    """Given what is no hash, return enough of it to be told what it was."""
    return paths.shown(text.strip()[:_SHOWN].encode("utf-8", "replace").decode())


def _kind(written: str, *, any_hash: bool) -> tuple[str, int]:
    """Given the name of a hash as a client writes it, return ours, and how many digits it has."""
    name = written.lower().replace("-", "_")
    if re.fullmatch("(sha|md)_[0-9]+", name):
        name = name.replace("_", "")
    if not digests.is_known(name):
        if any_hash:
            return _odd(written), 0
        # One without a length of its own, such as shake_128, is none either.
        known = sorted(each for each in hashlib.algorithms_guaranteed if not each.startswith("shake"))
        raise JobRefused("unsupported-hash", f"the hash {written[:40]!r} is not known: there are {', '.join(known)}")
    return name, 2 * hashlib.new(name, usedforsecurity=False).digest_size


def _encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _bad(path: str, why: str) -> JobRefused:
    return JobRefused("bad-path", f"the path {path[:200]!a} cannot be taken: {why}")
