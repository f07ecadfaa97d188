"""Where the data of a stream go: from its checked values to the settings of its targets.

One function makes what all protocols have in common; what only one of them needs is made by the function that
`_ACCESS` names for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mistamover.config import check, command, gridftp, login, objects
from mistamover.config.access import Access, ExtensionAccess, NativeAccess
from mistamover.config.files import private
from mistamover.config.settings import HandshakeSettings, SshSettings, TargetSettings, TransferUnit, Verify
from mistamover.config.values import Values

_STREAM, _OUT, _SSH, _NATIVE = "data_stream", "outgoing", "rsync_ssh", "rsync_native"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Protocol:
    """What the configuration of one protocol consists of, apart from what all have in common."""

    section: str
    """Where its own keys stand."""
    access: Callable[[Values], Access | None] = lambda _: None
    """Makes what only this protocol needs."""
    place: Callable[[Values], tuple[str, str]] | None = None
    """Makes host and directory where they are not target_host and target_dir."""
    ssh: Callable[[Values], SshSettings] | None = None
    """Makes the settings of ssh where they are not those of rsync_ssh."""


def _native(values: Values) -> NativeAccess:
    username = values.text(_NATIVE, "username")
    password = values.text(_NATIVE, "password") or ""
    password_file = private(values, _NATIVE, "password_file")
    if password and password_file is not None:
        message = "is set, and password_file as well, expected one of them"
        values.problem(_NATIVE, "password", message, "leave one of them out")
    elif username and not password and not values.is_set(_NATIVE, "password_file"):
        values.require(_NATIVE, "password", "the password of username, here or in password_file")
    host, port = check.split_address(values.text(_OUT, "target_host") or "")
    return NativeAccess(
        rsync=_programs(values, _NATIVE).rsync,
        host=host.strip("[]"),
        port=port,
        username=username,
        password=password,
        password_file=password_file,
        use_checksum=values.flag(_NATIVE, "use_checksum"),
        bandwidth_limit=_limit(values, _NATIVE),
        connect_timeout=values.amount(_NATIVE, "connect_timeout"),
    )


def _native_place(values: Values) -> tuple[str, str]:
    values.require(_OUT, "target_host", "the name of the target host")
    values.require(_OUT, "target_dir", "the module, and the directory in it")
    written = values.text(_OUT, "target_dir") or ""
    parts = [part for part in written.split("/") if part not in ("", ".")]
    if written and (not parts or ".." in parts):
        message = "names no directory below a module, expected module/directory or just a module"
        values.problem(_OUT, "target_dir", message)
    return values.text(_OUT, "target_host") or "", "/".join(parts)


_PROTOCOLS = {
    "rsync_ssh": _Protocol(section=_SSH),
    "sftp": _Protocol(section="sftp", ssh=login.sftp),
    "ftp": _Protocol(section="ftp", access=login.ftp),
    "ftps": _Protocol(section="ftps", access=login.ftps),
    "rsync_native": _Protocol(section=_NATIVE, access=_native, place=_native_place),
    "local": _Protocol(section="local", place=lambda values: _directory_here(values)),
    "s3": _Protocol(section="s3", access=objects.s3_access, place=objects.s3_place),
    "url": _Protocol(section="url", access=objects.url_access, place=objects.url_place),
    "gridftp_certificate": _Protocol(section="gridftp_certificate", access=gridftp.certificate),
    "gridftp_myproxy": _Protocol(section="gridftp_myproxy", access=gridftp.myproxy),
}

#: Entry points of this group name protocols that other packages bring; `registry` finds their transports there.
GROUP = "mistamover.transports"

_EXTENSION = "extension"


def names() -> tuple[str, ...]:
    """Return the names of all protocols that can be used, apart from those of other packages."""
    return (*_PROTOCOLS, "none")


def own_section(protocol: str) -> str:
    """Given a protocol's name, return the section with its keys; "" for one that has none."""
    found = _protocol(protocol)
    return found.section if found is not None else ""


def _extensions() -> tuple[str, ...]:
    """Return the names of the protocols that other packages bring."""
    from importlib.metadata import entry_points  # most services need none of them

    return tuple(dict.fromkeys(point.name for point in entry_points(group=GROUP)))


def _protocol(name: str) -> _Protocol | None:
    """Given a protocol's name, return what its configuration consists of; None if there is no such protocol."""
    if name in _PROTOCOLS or name in ("none", ""):
        return _PROTOCOLS.get(name)
    if name in _extensions():
        return _Protocol(section=_EXTENSION, access=_extension, place=_anywhere)
    return None


def section_of(values: Values) -> str:
    """Given the values of a stream, return the section with the keys of its protocol."""
    return section_for(values.text(_OUT, "transfer_protocol") or "")


def section_for(name: str) -> str:
    """Given the name of a protocol, known or not, return the section with its keys."""
    protocol = _protocol(name)
    return protocol.section if protocol is not None else _SSH


def build_targets(values: Values) -> tuple[TargetSettings, ...]:
    """Given the values of a stream, return its targets; none where it sends nothing."""
    expected = " or ".join((", ".join(names()[:-1]), names()[-1]))
    values.require(_OUT, "transfer_protocol", expected)
    name = values.text(_OUT, "transfer_protocol")
    protocol = _protocol(name or "")
    if name is None:
        # Whichever it is going to be, what is wrong with the likely one is told now.
        _ssh(values, _SSH)
    elif protocol is None and name != "none":
        message = f'"{name}" is not known, expected {expected}'
        values.problem(_OUT, "transfer_protocol", message, check.did_you_mean(name, (*names(), *_extensions())))
    return () if name is None or protocol is None else (_target(values, name, protocol),)


def _target(values: Values, name: str, protocol: _Protocol) -> TargetSettings:
    host, directory = (protocol.place or _host_and_directory)(values)
    handshake = _handshake(values)
    return TargetSettings(
        # What was delivered is recorded under this name, and must not count for another directory.
        name=f"{host}:{directory}",
        protocol=name,
        host=host,
        directory=directory,
        stop_file=values.text(_OUT, "stop_file") or "",
        stop_file_poll_interval=values.amount(_OUT, "stop_file_poll_interval"),
        required=values.flag(_OUT, "required"),
        # One hash does for both, where rsync can compute it.
        hash=_hash(values, handshake),
        verify=Verify(values.text(_OUT, "verify")),
        ssh=protocol.ssh(values) if protocol.ssh is not None else _ssh(values, _SSH),
        access=protocol.access(values),
        reserve=int(values.amount(_OUT, "target_reserve") * 1024 * 1024),
        handshake=handshake,
    )


def _host_and_directory(values: Values) -> tuple[str, str]:
    values.require(_OUT, "target_host", "the name of the target host")
    values.require(_OUT, "target_dir", "the directory on the target host")
    host = values.text(_OUT, "target_host") or ""
    if check.split_address(host)[1] is not None:
        values.problem(_OUT, "target_host", "holds a port, expected a host", "a port goes into the key port")
    return host, values.text(_OUT, "target_dir") or ""


def _directory_here(values: Values) -> tuple[str, str]:
    """Return where the protocol `local` delivers to: a directory of this machine that is no stream's own."""
    if values.is_set(_OUT, "target_host"):
        message = "has no effect: the protocol local delivers into a directory of this machine"
        values.warn(_OUT, "target_host", message, "leave it out, or choose another protocol")
    values.require(_OUT, "target_dir", "a directory of this machine")
    directory = values.text(_OUT, "target_dir") or ""
    if directory and not os.path.isabs(directory):
        message = f"{directory} is not an absolute path, expected one that begins with /"
        values.problem(_OUT, "target_dir", message, "write out the whole path")
    source = values.path(_STREAM, "directory")
    if directory and source is not None:
        here, there = os.path.realpath(source), os.path.realpath(directory)
        if os.path.commonpath([here, there]) in (here, there):
            message = f"{directory} and the stream's directory {source} lie in one another, expected two separate ones"
            values.problem(_OUT, "target_dir", message, "deliver into another directory")
    return "localhost", directory


def _anywhere(values: Values) -> tuple[str, str]:
    """Return where a protocol of another package delivers to: what it needs of both it checks itself."""
    return values.text(_OUT, "target_host") or "", values.text(_OUT, "target_dir") or ""


def _extension(values: Values) -> ExtensionAccess:
    options = []
    for word in values.words(_EXTENSION, "options"):
        name, equals, value = word.partition("=")
        if not equals:
            message = f'"{name}" has no value, expected NAME=VALUE'
            values.problem(_EXTENSION, "options", message, "put = and a value behind each name")
        options.append((name, value))
    return ExtensionAccess(options=tuple(options), secret_file=_readable(values, _EXTENSION, "secret_file"))


def _hash(values: Values, handshake: HandshakeSettings | None) -> str:
    own = values.text(_OUT, "hash") or ""
    return handshake.algorithm if handshake is not None and handshake.algorithm == "md5" else own


def _ssh(values: Values, section: str) -> SshSettings:
    programs = _programs(values, section)
    ciphers = values.text(section, "ciphers")
    compress = values.flag(section, "compress")
    limit = _limit(values, section)
    return SshSettings(
        rsync=programs.rsync,
        ssh=programs.ssh,
        username=values.text(section, "username"),
        port=values.whole(section, "port"),
        identity_file=_readable(values, section, "identity_file"),
        ssh_config=_readable(values, section, "ssh_config"),
        use_checksum=values.flag(section, "use_checksum"),
        bandwidth_limit=limit,
        ciphers=None if ciphers == "auto" else ciphers,
        compress=compress,
        connect_timeout=values.amount(section, "connect_timeout"),
        # What else is asked of rsync, it must do itself.
        express=values.flag(section, "express") and len(programs.rsync) == 1 and not (limit or compress),
    )


def _programs(values: Values, section: str) -> command.RsyncCommand:
    programs, refused = command.split(values.words(section, "cmd"))
    for refusal in refused:
        message = f"the option {refusal.option} is not allowed: {refusal.why}, expected a command without it"
        values.problem(section, "cmd", message, "take the option out")
    return programs


def _limit(values: Values, section: str) -> str | None:
    limit = values.text(section, "bandwidth_limit")
    return limit if limit is not None and float(limit.rstrip("kKmMgG")) else None


def _readable(values: Values, section: str, key: str) -> Path | None:
    path = values.path(section, key)
    if path is None:
        return None
    if not path.is_file():
        values.problem(section, key, f"there is no file {path}, expected a file that exists", "correct the path")
    elif not os.access(path, os.R_OK):
        message = f"{path} cannot be read by user id {os.geteuid()}, expected a readable file"
        values.problem(section, key, message, "correct its owner or mode, or run as its owner")
    return path


def _handshake(values: Values) -> HandshakeSettings | None:
    if not values.flag(_OUT, "target_uses_arrival_monitor"):
        return None
    algorithm = values.text(_OUT, "checksum_algorithm") or ""
    as_they_are = values.text(_STREAM, "transfer_unit") == TransferUnit.DIRECTORY.value
    if algorithm == "md5" and as_they_are and not values.flag(_OUT, "always_zip"):
        message = "older agents, which know md5 only, give no receipts for directories (transfer_unit = directory)"
        hint = "set checksum_algorithm = sha256 if the other agent is of this version"
        values.problem(_OUT, "target_uses_arrival_monitor", message, hint)
    if values.flag(_OUT, "mirror_delete"):
        message = "what an arrival monitor has taken in cannot be removed from here, expected False"
        values.problem(_OUT, "mirror_delete", message, "set it to False")
    interval = values.amount(_OUT, "receipt_file_poll_interval")
    return HandshakeSettings(
        control_suffix=suffix(values, _OUT, "control_file_extension"),
        receipt_suffix=suffix(values, _OUT, "receipt_file_extension"),
        algorithm=algorithm,
        interval=interval,
        longest_wait=interval * (max(1, values.whole(_OUT, "receipt_file_poll_count") or 0)),
    )


def suffix(values: Values, section: str, key: str) -> str:
    """Given a key that holds the ending of a message's name, return it with its dot."""
    return "." + (values.text(section, key) or "").lstrip(".")
