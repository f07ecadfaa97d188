"""What `mistamover init` asks: for each way to send or receive the keys that it needs, and the schema's words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mistamover.config import schema, targets
from mistamover.config.expand import Place

NAME = Place("data_stream", "name")
DIRECTORY = Place("data_stream", "directory")
PROTOCOL = Place("outgoing", "transfer_protocol")
HOST = Place("outgoing", "target_host")
TARGET_DIR = Place("outgoing", "target_dir")
TARGET_URL = Place("outgoing", "target_url")
INCOMING = Place("incoming", "directory")
RECIPIENT = Place("email", "recipient")

#: The help text of this key is about its old meaning.
_NAME_WORDS = "The name of the stream: letters, digits, dots, dashes and underscores, a letter or digit first."

#: Characters of a help text that are shown before a question.
_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One kind of stream that can be made."""

    words: str
    """What it is, for the list that is chosen from."""
    needs: tuple[str, ...] = ()
    """The keys to ask for, as section.key; .key is one of the protocol's own section. What the schema lacks is left."""
    fixed: tuple[tuple[Place, str], ...] = ()
    """Values that follow from the choice."""
    protocol: str = ""
    """The transfer_protocol, where it has another name than the way."""


_HOST, _DIR, _URL = "outgoing.target_host", "outgoing.target_dir", "outgoing.target_url"
_USER, _PASSWORD, _MODE = ".username", ".password", ".transfer_mode"

#: In the order in which they are offered; a protocol that is not here is offered with the keys that it requires.
_WAYS = {
    "rsync_ssh": Way(words="rsync over ssh, the quickest and safest way", needs=(_HOST, _DIR, _USER, _MODE)),
    "rsync_native": Way(words="rsync to an rsync daemon", needs=(_HOST, _DIR, _USER, _PASSWORD, _MODE)),
    "sftp": Way(words="files over ssh, without rsync", needs=(_HOST, _DIR, _USER, _MODE)),
    "ftp": Way(words="a plain FTP server", needs=(_HOST, _DIR, _USER, _PASSWORD, _MODE)),
    "ftps": Way(words="an FTP server, encrypted", needs=(_HOST, _DIR, _USER, _PASSWORD, _MODE)),
    "local": Way(words="another directory of this host", needs=(_DIR, _MODE)),
    "s3": Way(words="a bucket of an object store", needs=(_URL, ".endpoint_url", ".secret_file", _MODE)),
    "url": Way(words="whatever a URL names and fsspec can write to", needs=(_URL, ".options_file", _MODE)),
    "gridftp_myproxy": Way(
        words="GridFTP with a proxy from a MyProxy server",
        needs=(_HOST, _DIR, ".proxy", _USER, _PASSWORD, _MODE),
    ),
    "gridftp_certificate": Way(words="GridFTP with a certificate", needs=(_HOST, _DIR, _PASSWORD, _MODE)),
    "arrival_monitor": Way(
        words="receive what another MiStaMover sends, with receipts",
        needs=("incoming.directory",),
        fixed=((Place("incoming", "require_arrival_monitor"), "True"),),
        protocol="none",
    ),
    "none": Way(words="send nothing"),
}


def ways() -> tuple[str, ...]:
    """Return the names of the ways that this version can go."""
    known = targets.names()
    listed = (name for name, way in _WAYS.items() if (way.protocol or name) in known)
    return tuple(dict.fromkeys((*listed, *known)))


def way(name: str) -> Way:
    """Given one of the names, return the way."""
    if name in _WAYS:
        return _WAYS[name]
    section = targets.own_section(name)
    required = [f".{option.key}" for option in schema.options() if option.section == section and option.required]
    return Way(words="see the reference", needs=(_HOST, _DIR, *required, _MODE))


def places(name: str, *, everything: bool = False) -> tuple[Place, ...]:
    """Given the name of a way, return the keys to ask for; with `everything` all keys of its protocol's section."""
    chosen = way(name)
    section = targets.own_section(chosen.protocol or name)
    needed = [_place(key, section) for key in chosen.needs]
    if everything:
        needed += [Place(section, key) for key in schema.keys(section)]
    found = (place for place in dict.fromkeys(needed) if (option := schema.find(*place)) and not option.replaced)
    return tuple(found)


def own(name: str, key: str) -> Place:
    """Given the name of a way and a key, return it as one of the protocol's section, which may not know it."""
    return Place(targets.own_section(way(name).protocol or name), key)


def explanation(place: Place) -> str:
    """Given a key, return the beginning of its help text, in whole sentences."""
    if place == NAME:
        return _NAME_WORDS
    option = schema.find(*place)
    sentences = re.split(r"(?<=\.) ", option.help if option else "")
    shown = sentences[0]
    for sentence in sentences[1:]:
        if len(shown) + len(sentence) >= _SHOWN:
            break
        shown += f" {sentence}"
    return shown


def choices(place: Place) -> tuple[str, ...]:
    """Given a key, return the values to choose from; none if it takes more than a few."""
    option = schema.find(*place)
    return option.arguments if option and option.type == "choice" else ()


def _place(key: str, own_section: str) -> Place:
    section, _, name = key.partition(".")
    return Place(section or own_section, name)
