"""The settings of the job front: how it listens, what its jobs may do, and the endpoints that they know.

Values only, as in `settings`; built by `front`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """A place that jobs know by name."""

    name: str
    url: str
    """As written, without a password."""
    scheme: str
    """`file`, `sftp` (also for scp, ssh and rsync), or any other one in lower case."""
    host: str = ""
    port: int | None = None
    user: str = ""
    base: str = ""
    """The directory that no path of a job leaves; for object stores bucket and prefix."""
    description: str = ""
    role: str = "normal"
    """`normal` or `archive`."""
    read_only: bool = False
    enabled: bool = True
    dry_run: bool = False
    """Every operation is answered, and none is done (the test mode of the machine status manager)."""
    max_parallel: int = 4
    """Jobs that may use it at a time."""
    identity_file: Path | None = None
    ssh_config: Path | None = None
    password_file: Path | None = None
    """A private file with the password of `user`, or with what the scheme's driver takes as a secret."""
    accept_new_host_keys: bool = False
    workers: str = ""
    """The group of workers that can reach it; empty: all can."""
    options: Mapping[str, str] = field(default_factory=dict)
    """More for the scheme's driver, and what clients keep there (scheduler, nodes)."""
    from_ini: bool = True
    """Written in the configuration; otherwise added over the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """How the front listens, and what it allows."""

    host: str = "127.0.0.1"
    port: int = 6543
    anonymous: str = "none"
    """A `jobs.model.Scope` in its word; only ever on loopback."""
    certificate: Path | None = None
    certificate_key: Path | None = None
    behind_proxy: bool = False
    """TLS ends at a proxy in front of us, which alone can reach us."""
    dialects: tuple[str, ...] = ("rest", "xmlrpc", "dm", "msm", "cart")
    carts_at_root: bool = False
    """Carts are also at `/UID`, as they were in the data cart, and not only at `/cart/UID`."""
    cart_dialect: str = "seed"
    """`seed`, or `cartd`: staging is all that is said before a cart is ready."""
    url_schemes: tuple[str, ...] = ("http", "https")
    """Schemes of URLs that belong to no endpoint and may be sources all the same."""
    url_hosts: tuple[str, ...] = ()
    """Patterns of the hosts of such URLs; empty: all."""
    allow_private_addresses: bool = False
    max_request: int = 8 << 20
    """Bytes of a request that is no content."""
    max_content: int = 0
    """Bytes of content that may be put; 0 is no limit but the disk's."""
    max_items: int = 10_000
    max_unfinished: int = 10_000
    """Jobs of one owner that may wait or run."""
    requests_per_second: float = 0.0
    """From one client; 0 is no limit."""
    sync_timeout: float = 600.0
    """Seconds that a synchronous call waits for its job."""
    datamanager_dialect: str = "seed"
    """`seed` or `released`."""
    xmlrpc_forget_completed: bool = False
    ala_destination: str = ""
    """ENDPOINT/path that `pullOccurrenceFromALA` delivers to."""
    ala_occurrence_url: str = ""
    ala_metadata_url: str = ""
    ala_sleep_time: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CartSettings:
    """Where the files of carts come from, and where they are kept."""

    volume: Path
    """The directory that is theirs alone; front and workers share it."""
    archive: str = ""
    """The endpoint that files come from where a cart does not say; empty: each has to."""
    quota: int = 0
    """Bytes of all carts together; 0 is no limit but the disk's."""
    lru_buffer_time: float = 0.0
    """Seconds for which a cart is not evicted after it was used."""
    bundle: bool = False
    """A bundle is made once, and stored, where a cart does not say."""
    manifest: bool = True
    """A bundle tells the hashes of its files, where a cart does not say."""
    max_files: int = 100_000
    pulls: int = 4
    """Files of one cart that come at a time."""
    stage_timeout: float = 86400.0
    """Seconds that the archive may take to have a file on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How jobs are kept and worked off."""

    database_url: str = field(repr=False)
    """As SQLAlchemy takes it; may hold a password: never shown."""
    kind: str = "embedded"
    """`embedded`: workers look into the store; `celery`: a broker tells them."""
    broker_url: str = field(default="", repr=False)
    """As Celery takes it; may hold a password: never shown."""
    groups: tuple[str, ...] = ()
    """The groups of workers that a worker of this configuration is one of."""
    groups_only: bool = False
    """It does no jobs but those of its groups."""
    broker_ca_file: Path | None = None
    """Certificates to trust for the broker in place of those of the system."""
    announce_again: float = 30.0
    """Seconds after which a job that nobody has begun is announced once more."""
    threads: int = 4
    """Jobs that one worker process does at a time."""
    owner_max_running: int = 0
    """Jobs of one owner that run at a time; 0 is no limit."""
    lease: float = 15.0
    """Seconds after which a worker that does not renew its claim has lost it."""
    retry_count: int = 3
    retry_pause: float = 2.0
    """Seconds before the second attempt; doubled for each further one."""
    give_up_after: float = 3600.0
    """Seconds for which a job waits for an endpoint that cannot be reached."""
    retention: float = 30 * 86400.0
    """Seconds that ended jobs are kept; 0 keeps them for ever."""
    callback_secret_file: Path | None = None
    """A private file with the secret that callbacks by HTTP are signed with: that of [notify]."""
    callback_ca_file: Path | None = None
    """Certificates to trust for them in place of those of the system: those of [notify]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """All of it."""

    enabled: bool
    """Whether the master starts front and worker."""
    directory: Path
    """Ours alone, below the state directory: the store, the spool, the doorbell."""
    front: FrontSettings
    engine: EngineSettings
    carts: CartSettings
    endpoints: tuple[EndpointSettings, ...] = ()
