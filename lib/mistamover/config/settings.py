"""The configuration as the rest of the package sees it: frozen, typed, complete.

Built by `load`; nothing here reads a file.  Comparing two values of these
classes tells whether a change of the INI files matters to a stream.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from mistamover.config.access import Access, Tls
from mistamover.config.serving import JobSettings


class StreamStatus(enum.Enum):
    """The `status` key of a stream."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    COMPLETE = "COMPLETE"


class TransferMode(enum.Enum):
    """What happens at the source after a delivery."""

    MOVE = "move"
    MIRROR = "mirror"


class TransferUnit(enum.Enum):
    """What travels, and becomes visible at the target, as one."""

    FILE = "file"
    DIRECTORY = "directory"


class LinkPolicy(enum.Enum):
    """What is done with symbolic links; they are never followed."""

    KEEP = "keep"
    IGNORE = "ignore"
    QUARANTINE = "quarantine"


class DotFiles(enum.Enum):
    """What is done with names that begin with a dot."""

    AUTO = "auto"  # ignore in move mode, send in mirror mode
    IGNORE = "ignore"
    SEND = "send"


class WatchMode(enum.Enum):
    """How arrivals are noticed."""

    AUTO = "auto"  # events where the filesystem reports them, else polling
    EVENTS = "events"
    POLL = "poll"


class Verify(enum.Enum):
    """By what a file is confirmed at a target that cannot tell a hash."""

    CONTENT = "content"  # it is read back and compared
    SIZE = "size"  # its size is compared, in words of the operator


#: Name of the directory, below the state directory, where the connections are kept that several streams share.
LINKS = "links"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Where log files go and from which level on."""

    directory: Path
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """How the owned ssh connection and rsync are called for one target."""

    rsync: tuple[str, ...]
    """`cmd` without its `-e`: the program and its extra options."""
    ssh: tuple[str, ...]
    """The remote shell of `cmd`'s `-e`, or just `ssh`."""
    username: str | None
    port: int | None
    identity_file: Path | None
    ssh_config: Path | None
    use_checksum: bool
    bandwidth_limit: str | None
    """As rsync's --bwlimit takes it (KiB/s, or with a suffix); None is no limit."""
    ciphers: str | None
    """As ssh's option of that name takes it; None chooses, after the user's own configuration."""
    compress: bool
    connect_timeout: float
    express: bool
    """Small files may go by a receiver of ours; false where `cmd` asks for what only rsync does."""
    password_file: Path | None = None
    """Where ssh gets a password from, if it is to use one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeSettings:
    """How a sender talks with the arrival monitor at its target; endings begin with a dot."""

    control_suffix: str
    receipt_suffix: str
    algorithm: str
    """Of the checksums in control files: `md5` is what older agents know."""
    interval: float
    """The longest pause between two looks for receipts, in seconds."""
    longest_wait: float
    """Seconds after which a receipt is not waited for any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSettings:
    """What the arrival monitor of a stream watches for; endings begin with a dot."""

    directory: Path
    control_suffix: str
    thanks_suffix: str
    stop_file: str
    """What asks those who deliver here to wait; never data."""
    receipt_retention: float
    """Seconds after which a receipt that nobody thanked for is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """One place that a stream delivers to."""

    name: str
    protocol: str
    host: str
    directory: str
    """Path at the target, as written; a relative one is relative to the login's home."""
    stop_file: str
    stop_file_poll_interval: float
    required: bool
    hash: str
    ssh: SshSettings
    verify: Verify = Verify.CONTENT
    access: Access | None = None
    reserve: int = 0
    """Bytes that are to stay free at the target; 0 asks nothing."""
    handshake: HandshakeSettings | None = None
    """Set where the target has an arrival monitor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Thresholds of what is free: above `good` all is well, below `low` streams wait, below `vlow` data may go.

    0 is no threshold; otherwise good >= low >= vlow.
    """

    good: float
    low: float
    vlow: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """What the disk guard watches for, on every filesystem alike."""

    enabled: bool
    """Whether the configuration sets any threshold."""
    space: Levels
    """In bytes."""
    inodes: Levels
    """In percent of all inodes."""
    base_priority: int
    poll_interval: float
    delete_undelivered: bool
    """Where data may be deleted, also what was not delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """All that one stream needs to know."""

    name: str
    file: Path
    status: StreamStatus
    directory: Path
    mode: TransferMode
    unit: TransferUnit
    zips: bool
    """Directory units travel as zips: by `always_zip`, or because the protocol cannot carry directories."""
    dir_size_limit: int
    """Bytes of content that a directory unit may have to be zipped; 0 is no limit."""
    targets: tuple[TargetSettings, ...]
    """Empty for `transfer_protocol = none`."""
    priority: int
    deletion_enabled: bool
    """Whether the disk guard may delete data of this stream."""
    stop_file: str
    completion_file: str | None
    ignore: tuple[str, ...]
    temporary_suffixes: tuple[str, ...]
    dot_files: DotFiles
    symlinks: LinkPolicy
    settle_time: float
    minimum_age: float
    rescan_interval: float
    watch: WatchMode
    empty_directory_age: float
    mirror_delete: bool
    mirror_max_delete: int
    retry_count: int
    quarantine_dir: Path
    history_retention: float
    """Seconds that delivery records are kept; 0 keeps them for ever."""
    reserved_suffixes: tuple[str, ...]
    """Endings of handshake files (`.<extension>`); never data."""
    monitor: MonitorSettings | None
    """Set where others deliver to this stream and want receipts."""
    state_dir: Path
    """This stream's own directory below the state directory."""
    links_dir: Path
    """Where the connections are kept that several streams share."""
    stop_timeout: float
    log: LogSettings
    parts: tuple[StreamSettings, ...] = ()
    """Of a stream with several targets: one stream for each of them, which keeps what it sends.

    What all required ones have delivered is removed by this one.
    """
    part_of: str = ""
    """The name of the stream that this one is a part of; empty if of none."""
    keeps_for_whole: bool = False
    """What it delivers stays only until the whole stream removes it."""

    @property
    def removes(self) -> bool:
        """Whether it removes what its parts have delivered."""
        return bool(self.parts) and self.mode is TransferMode.MOVE

    @property
    def works(self) -> bool:
        """Whether it needs a process: it sends, or removes what its parts have sent."""
        return self.status is StreamStatus.RUNNING and (bool(self.targets) or self.removes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """How a mail gets to those who look after the service."""

    sender: str
    recipients: tuple[str, ...]
    subject: str
    """What every subject begins with."""
    host: str
    port: int
    tls: Tls
    ca_file: Path | None
    login_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """Where programs are told what happens."""

    url: str
    secret_file: Path | None
    ca_file: Path | None
    events: tuple[str, ...]
    """Of `delivered`, `quarantined` and `incident`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpSettings:
    """Where programs are told what happens by a message broker."""

    host: str
    port: int
    tls: bool
    vhost: str
    user: str
    password_file: Path | None
    """None: the password is that of `guest`, its name."""
    ca_file: Path | None
    exchange: str
    routing_key: str
    """With the fields `{stream}` and `{event}`."""
    mandatory: bool
    """What no queue takes is not handed over."""
    events: tuple[str, ...]
    """As those of `NotifySettings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """Who is told what, and when."""

    after: float
    """Seconds that an incident lasts before it is told, and is over before that is told."""
    remind_interval: float
    """Seconds; 0 reminds of nothing."""
    gather_time: float
    """Seconds; what is due within them is told together."""
    threshold: str
    """The least important level of log messages that are mailed."""
    collect_time: float
    """Seconds for which such messages are collected."""
    mail: MailSettings | None
    notify: NotifySettings | None
    amqp: AmqpSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration at one moment."""

    file: Path
    state_dir: Path
    pid_file: Path
    rescan_interval: float
    """`general_poll_interval`: seconds between two looks at the configuration files."""
    restart_pause: float
    """Seconds before a process that has died is started again, the first time."""
    stop_timeout: float
    log: LogSettings
    debug: bool
    disk: DiskSettings
    streams: tuple[StreamSettings, ...]
    sources: tuple[Path, ...]
    """Every file and directory whose change calls for a reload."""
    alerts: AlertSettings | None = None
    """None when nobody is to be told anything."""
    jobs: JobSettings | None = None
    """None when the global file says nothing of jobs."""
    warnings: tuple[str, ...] = ()

    def stream(self, name: str) -> StreamSettings | None:
        """Given a stream's name, return its settings, or None if there is no such stream."""
        return next((stream for stream in self.streams if stream.name == name), None)
