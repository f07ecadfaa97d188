"""What the two rsyncs can agree on: options that the other end does not know, or is not allowed to take, are left out.

An rsync says at once, before anything is sent, which option it refuses; it is asked again without.  What is given up
stays given up for as long as the transport lives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mistamover.errors import LinkError, TargetError

#: Too old, too strict, or a script (rrsync) that allows only some.
_REFUSALS = (
    re.compile(rb"refuse (-[\w-]+)"),
    re.compile(rb"rsync: (?:\[[^]]*\] )?(?:on remote machine: )?(-[\w-]+)[^:\n]*: unknown option"),
    re.compile(rb"option (-[\w-]+) has been disabled on this server"),
    re.compile(rb"Your (-[\w-]+) value [^\n]*refused by the server"),
)
_UNKNOWN_HASH = (b"unknown checksum name", b"Unable to negotiate", b"checksum type", b"Failed to negotiate a checksum")

#: What rrsync says of an option that it does not know, without naming it.
_SOME_OPTION = b"invalid rsync-command syntax or options"

#: rrsync lets in one at a time, unless it is told otherwise.
_BUSY = b"Another instance of rrsync is already accessing"

#: Short names, and those that mean the same here.
_SAME = {"-s": "--secluded-args", "--protect-args": "--secluded-args", "-T": "--temp-dir"}

#: In the order in which they are given up where nobody says which one it is: the newest first.
_OPTIONS = (
    "--modify-window",
    "--fsync",
    "--checksum-choice",
    "--secluded-args",
    "--link-dest",
    "--partial-dir",
    "--temp-dir",
    "--delete",
)

#: By what each old rsync proves a file where nothing else is agreed on.
OLD_HASH = "md5"

_HINTS = (
    ("auth failed", "check username and password"),
    ("Unknown module", "is the first part of target_dir a module of this server?"),
    ("read only", "set `read only = no` for the module there"),
    ("read-only server", "the key is allowed to read only: use another one"),
    ("password file must", "the password file must belong to who runs this"),
    ("Connection refused", "does an rsync daemon run there, and is the port right?"),
    ("getaddrinfo", "check target_host"),
    ("timed out", "is the host up, and does a firewall let the connection through?"),
    ("max connections", "others use all connections that the server allows"),
)

#: Whose words mean that the server was reached, and will not have us as we are.
_TARGETS_WORDS = re.compile(
    r"@ERROR(?!: max connections)|read.only|write.only|change_dir|change_to|mkdir|auth failed|rrsync error|chroot"
)


@dataclass(slots=True)
class Terms:
    """The options that are still used; each kind of run asks here for what it wants."""

    hash: str
    """By which files are proven, as long as it can be chosen."""
    _given_up: set[str] = field(default_factory=set)

    def allows(self, option: str) -> bool:
        """Given the long name of an option, tell whether it may be used."""
        return option not in self._given_up

    def some(self, option: str, value: str = "") -> list[str]:
        """Given the long name of an option, return the word for it, or none if it was given up."""
        return [f"{option}={value}" if value else option] if self.allows(option) else []

    def give_up(self, option: str) -> None:
        """Given the long name of an option, do without from now on."""
        self._given_up.add(option)

    def learn(self, stderr: bytes, argv: Sequence[str]) -> str:
        """Given what rsync said and how it was called, give up what was refused; return it, or "" if nothing was.

        What was not asked for, or was given up before, is nothing new: asking again would not help.
        """
        used = {_SAME.get(word.partition("=")[0], word.partition("=")[0]) for word in argv}
        used |= {"--delete" for word in used if word.startswith("--delete")}
        refused = next((option for option in _refused(stderr) if option in used and self.allows(option)), "")
        if refused:
            self._given_up.add(refused)
        return refused

    @property
    def proof(self) -> str:
        """The hash by which files are proven now."""
        return self.hash if self.allows("--checksum-choice") else OLD_HASH

    @property
    def algorithm(self) -> str:
        """The hash by which files are proven, where it is not the one that was asked for; else empty."""
        return self.proof if self.proof != self.hash else ""

    def hashing(self) -> list[str]:
        """Return the words that choose the hash."""
        return self.some("--checksum-choice", self.hash)

    def exact(self) -> list[str]:
        """Return the words for files of a stream: which hash, and that times count to the nanosecond."""
        return [*self.hashing(), *self.some("--modify-window", "-1")]

    def environment(self) -> Mapping[str, str]:
        """Return the variables that choose the hash where no option may: an rsync before 3.2 knows md5 only."""
        return {} if self.allows("--checksum-choice") else {"RSYNC_CHECKSUM_LIST": OLD_HASH}


def _refused(stderr: bytes) -> list[str]:
    found = [match[1].decode() for pattern in _REFUSALS for match in pattern.finditer(stderr)]
    names = [_SAME.get(name, "--delete" if name.startswith("--delete") else name) for name in found]
    if any(words in stderr for words in _UNKNOWN_HASH):
        names.append("--checksum-choice")
    return [*names, *_OPTIONS] if _SOME_OPTION in stderr else names


def is_busy(stderr: bytes) -> bool:
    """Given what rsync said, tell whether the target lets in one at a time, and somebody is in."""
    return _BUSY in stderr


def explain(words: str) -> LinkError | TargetError:
    """Given why a run came to nothing, return the error to be raised, with what to do about it."""
    hint = next((f" ({hint})" for sign, hint in _HINTS if sign in words), "")
    kind = TargetError if _TARGETS_WORDS.search(words) else LinkError
    return kind(f"{words}{hint}")
