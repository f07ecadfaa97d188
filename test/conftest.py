"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import engines
from mistamover.testing import gridftp as gridftp_server
from mistamover.testing import postgresql as elephants
from mistamover.testing import rabbitmq as rabbits
from mistamover.testing import redis_server, s3_server
from mistamover.testing import rsyncd as rsyncds
from mistamover.testing.ftpd import PrivateFtpd
from mistamover.testing.ftpd import available as ftpd_available
from mistamover.testing.gridftp import PrivateGridFtp
from mistamover.testing.postgresql import PrivatePostgres
from mistamover.testing.rabbitmq import PrivateRabbit
from mistamover.testing.redis_server import PrivateRedis
from mistamover.testing.rsyncd import PrivateRsyncd
from mistamover.testing.s3_server import PrivateS3
from mistamover.testing.sshd import PrivateSshd, available

if TYPE_CHECKING:
    import legacy_sites

#: What servers of others may be like: each serves what the module `all` serves.
MODULES = {
    "open": (),
    "keeps": ("refuse options = delete",),
    "plain": ("refuse options = fsync temp-dir partial-dir link-dest checksum-choice",),
    "writeonly": ("write only = yes",),
    "readonly": ("read only = yes",),
    "unrooted": ("use chroot = no", "munge symlinks = yes"),
}


def pytest_configure() -> None:
    """Have Ctrl-C mean something in the programs that tests start, also where the tests run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Have the thousands of tests, which all stay, not be looked through for garbage again and again."""
    gc.collect()
    gc.freeze()


def _need(what: str, reason: str | None) -> None:
    """Given a server and why it cannot run, skip the test; on CI (environment variable CI) fail it."""
    if reason and os.environ.get("CI"):
        pytest.fail(f"no {what} on CI: {reason}")
    if reason:
        pytest.skip(f"no {what}: {reason}")


def _need_sshd() -> None:
    _need("private sshd", available())


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSshd]:
    """A running private sshd that all tests share: not to be stopped, paused or killed."""
    _need_sshd()
    with PrivateSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def private_sshd(tmp_path: Path) -> Iterator[PrivateSshd]:
    """A running private sshd for one test, which may do to it what it likes."""
    _need_sshd()
    with PrivateSshd(tmp_path / "private-sshd") as server:
        yield server


@pytest.fixture(scope="session")
def rabbit_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbit]:
    """The one private RabbitMQ of this process of the tests; it takes seconds to start. Use `rabbit`."""
    _need("private RabbitMQ", rabbits.available())
    with PrivateRabbit(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture
def rabbit(rabbit_of_all: PrivateRabbit) -> PrivateRabbit:
    """A running private RabbitMQ that tests share, each with names of its own; one may stop, pause and start it."""
    rabbit_of_all.resume()
    rabbit_of_all.start()
    return rabbit_of_all


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """The one private PostgreSQL of this process of the tests; each test has a database of its own there."""
    _need("private PostgreSQL", elephants.available())
    with PrivatePostgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """The one private Redis of this process of the tests. Use `redis`."""
    _need("private Redis", redis_server.available())
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_of_all: PrivateRedis) -> PrivateRedis:
    """A running private Redis that tests share; one may stop, pause and start it."""
    redis_of_all.resume()
    redis_of_all.start()
    return redis_of_all


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that are marked so, or all of jobs if that is asked for, on every engine and store."""
    mark = metafunc.definition.get_closest_marker("every_engine")
    of_jobs = mark is not None or engines.is_of_jobs(metafunc.definition.path)
    wanted = engines.chosen(mark.args if mark is not None else ())
    if (mark is not None and not engines.WANTED) or (of_jobs and engines.WANTED == "all"):
        metafunc.parametrize("footing", wanted, indirect=True, scope="session")
    elif mark is not None and engines.WANTED not in wanted:
        metafunc.parametrize("footing", [], indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def footing(request: pytest.FixtureRequest) -> Iterator[engines.Footing]:
    """What the jobs of a test stand on; see `engines`."""
    usual = engines.WANTED if engines.WANTED in engines.FOOTINGS else engines.DEFAULT
    made = engines.Footing(getattr(request, "param", usual))
    _, broker, store = engines.FOOTINGS[made.name]
    if store == "postgresql":
        made.postgres = request.getfixturevalue("postgres")
        made.template = request.getfixturevalue("postgres_template")
    if broker == "rabbitmq":
        rabbit = request.getfixturevalue("rabbit_of_all")
        made.broker_url, made.broker_password = rabbit.url, rabbit.password
    elif broker == "redis":
        redis = request.getfixturevalue("redis_of_all")
        made.broker_url, made.broker_password = redis.url(), redis.password
    before, engines.current = engines.current, made
    yield made
    engines.current = before


@pytest.fixture(scope="session")
def postgres_template(postgres: PrivatePostgres) -> str:
    """The name of a database with empty tables, to be copied."""
    from mistamover.jobs.store.database import Database  # late: few tests need a database

    url = postgres.new_database()
    database = Database(url)
    database.upgrade()
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty directory on a disk: events, renames and flushes are what is tested."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def sftp_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSshd]:
    """A running private sshd that gives SFTP and no shell, shared by all tests."""
    _need_sshd()
    with PrivateSshd(tmp_path_factory.mktemp("sftp"), options=("ForceCommand internal-sftp",)) as server:
        yield server


@pytest.fixture(scope="session")
def ftpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateFtpd]:
    """A running private FTP server that serves the whole filesystem, shared by all tests."""
    _need("private FTP server", ftpd_available())
    with PrivateFtpd(tmp_path_factory.mktemp("ftp"), Path("/")) as server:
        yield server


@pytest.fixture(scope="session")
def ftpsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateFtpd]:
    """As `ftpd`, by TLS."""
    _need("private FTP server with TLS", ftpd_available(tls=True))
    with PrivateFtpd(tmp_path_factory.mktemp("ftps"), Path("/"), tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateS3]:
    """The one private S3 store of this process of the tests, which takes seconds to start; each test has buckets of
    its own there, and may pause and resume it.
    """
    _need("private S3 store", s3_server.available())
    with PrivateS3(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="session")
def gridftp() -> Iterator[PrivateGridFtp]:
    """The one private GridFTP server of this process of the tests; each test has a directory of its own there."""
    _need("private GridFTP server", gridftp_server.available())
    with PrivateGridFtp() as server:
        yield server


@pytest.fixture(scope="session")
def rsyncd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRsyncd]:
    """A running private rsync daemon that all tests share: not to be stopped, paused or killed."""
    _need("private rsync daemon", rsyncds.available())
    with PrivateRsyncd(tmp_path_factory.mktemp("rsyncd"), tmp_path_factory.getbasetemp(), modules=MODULES) as server:
        yield server


@pytest.fixture(scope="session")
def old_site(tmp_path_factory: pytest.TempPathFactory, sshd: PrivateSshd) -> legacy_sites.Site:
    """The endpoints of `old_front`; each test has names of its own there."""
    import legacy_sites  # late: few tests need a database

    directory = tmp_path_factory.mktemp("old-site")
    site = legacy_sites.site(directory, sshd)
    site.endpoints["plone"] = {"url": f"file://{site.local}/plone"}
    (site.local / "plone").mkdir()
    site.endpoints["hpc9"] = {"url": "sftp://mover@hpc9.example.org/scratch"}
    # One whose host key nobody knows.
    known = f'UserKnownHostsFile "{directory}/none"'
    lines = [known if "UserKnownHosts" in line else line for line in sshd.ssh_config.read_text().splitlines()]
    (directory / "ssh_config").write_text("\n".join([*lines, ""]))
    strange = f"sftp://{sshd.user}@{sshd.host}:{sshd.port}{site.remote}/strange"
    site.endpoints["stranger"] = {"url": strange, "ssh_config": directory / "ssh_config"}
    return site


@pytest.fixture(scope="session")
def old_front(
    tmp_path_factory: pytest.TempPathFactory, old_site: legacy_sites.Site, footing: engines.Footing
) -> Iterator[legacy_sites.RunningFront]:
    """A front and a worker for the tests of the older dialects: not to be stopped or killed."""
    import legacy_sites

    with legacy_sites.running(tmp_path_factory.mktemp("old-front"), old_site.endpoints, worker=True) as front:
        yield front


@pytest.fixture
def private_rsyncd(tmp_path: Path) -> Iterator[PrivateRsyncd]:
    """A running private rsync daemon for one test, which may do to it what it likes."""
    _need("private rsync daemon", rsyncds.available())
    with PrivateRsyncd(tmp_path / "private-rsyncd", tmp_path, modules=MODULES) as server:
        yield server
