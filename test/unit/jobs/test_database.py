"""The database of the store: its tables, its settings, who waits for whom, and what is said when it cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from mistamover.errors import StoreError
from mistamover.jobs.store.database import Database, version
from mistamover.jobs.store.migrations import configuration
from mistamover.jobs.store.schema import HEAD, metadata
from mistamover.jobs.store.store import Store
from mistamover.testing.postgresql import PrivatePostgres
from stores import a_job, submitted

SECRET = "s3cret-passw0rd"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with all tables."""
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def file(template: Path, tmp_path: Path) -> Path:
    """The file of a store with all tables."""
    return Path(shutil.copy(template, tmp_path / "store.sqlite"))


def of(path: Path) -> Database:
    """Given a file, return the database in it."""
    return Database(f"sqlite:///{path}")


def test_the_steps_lead_to_the_tables_that_are_described(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert ScriptDirectory.from_config(configuration(connection)).get_heads() == [HEAD]
        assert version(connection) == HEAD


def test_the_steps_are_shipped() -> None:
    assert (files("mistamover.jobs.store") / "migrations" / "versions" / f"step_{HEAD}.py").is_file()


def test_a_step_that_was_taken_is_not_taken_again(database: Database) -> None:
    with Store(database) as store:
        job = submitted(store)
        assert database.upgrade() == HEAD
        database.check()
        database.examine()
        assert store.jobs.get(job.id) == job


def test_a_new_store_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "job's store" / "a b%20.sqlite"
    database = of(path)
    with pytest.raises(StoreError, match="db upgrade"):
        database.check()
    assert not path.exists(), "looking makes nothing"
    database.prepare()
    database.check()
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
        for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            assert stat.S_IMODE(each.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    database.close()


def test_every_connection_is_set_as_it_has_to_be(file: Path) -> None:
    database = of(file)
    for way in (database.read, database.write):
        with way() as connection:
            wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
            wanted["query_only"] = int(way == database.read)
            for name, value in wanted.items():
                assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value, name
    with pytest.raises(StoreError), database.read() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    database.close()


def test_what_fails_is_undone(database: Database) -> None:
    with Store(database) as store:
        job = submitted(store)
        with pytest.raises(RuntimeError), database.write() as connection:
            connection.exec_driver_sql("DELETE FROM events")
            raise RuntimeError
        with pytest.raises(StoreError), database.write() as connection:
            connection.exec_driver_sql("DELETE FROM events")
            connection.exec_driver_sql("SELECT * FROM nowhere")
        assert len(store.events.after(0, job=job.id)) == 1


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE workers (x)")
    other.close()
    database = of(path)
    with pytest.raises(StoreError, match="workers"):
        database.upgrade()
    with database.read() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
    assert names == ["workers"]
    database.close()


def test_tables_of_another_version_are_not_used(database: Database) -> None:
    def at(step: str) -> None:
        with database.write() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{step}'")

    at("9999")
    for use in (database.check, database.upgrade, database.prepare):
        with pytest.raises(StoreError, match="newer"):
            use()
    at("0000")
    with pytest.raises(StoreError, match="db upgrade"):
        database.check()
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    with pytest.raises(StoreError, match="db upgrade"):
        database.check()


def test_postgresql_is_only_upgraded_when_asked(postgres: PrivatePostgres) -> None:
    database = Database(postgres.new_database())
    with pytest.raises(StoreError, match="db upgrade"):
        database.prepare()
    assert database.upgrade() is None
    database.prepare()
    database.close()


def test_whoever_writes_second_waits(file: Path) -> None:
    """Also behind one that has read before: it would be refused at once if it began as a reader."""
    with Store(f"sqlite:///{file}") as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM events")
        writer = threading.Thread(target=lambda: submitted(store))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive(), "it waits"
        assert store.jobs.page()[0] == [], "who reads does not"
        other.execute("COMMIT")
        writer.join(20)
        assert not writer.is_alive() and len(store.jobs.page()[0]) == 1
        other.close()


def test_damage_is_noticed(file: Path) -> None:
    with Store(f"sqlite:///{file}") as store:
        for number in range(200):
            store.jobs.submit(a_job(label=f"{number}" * 50))
        store.database.examine()
    with file.open("r+b") as content:
        content.seek(file.stat().st_size // 2 // 4096 * 4096)
        content.write(b"\xff" * 8192)
    database = of(file)
    with pytest.raises(StoreError, match=r"backup|malformed"):
        database.examine()
    database.close()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://robot:{SECRET}@127.0.0.1:1/x",
        f"postgresql://robot:{SECRET}@127.0.0.1:x/y",
        f"mysql://robot:{SECRET}@127.0.0.1/x",
        f"robot:{SECRET}",
        f"{SECRET}://x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////x?mode=memory",
        "",
    ],
)
def test_what_cannot_be_used_is_told_without_a_password(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        Database(url).check()
    error: BaseException | None = refused.value
    assert str(error)
    while error is not None:
        assert SECRET not in str(error) + repr(error)
        error = error.__context__


def test_a_wrong_password_is_told_without_it(postgres: PrivatePostgres) -> None:
    database = Database(postgres.url("postgres").replace(postgres.password, SECRET))
    with pytest.raises(StoreError) as refused:
        database.check()
    assert "password authentication failed" in str(refused.value) and SECRET not in str(refused.value)
    assert SECRET not in database.name and "robot" in database.name


def test_a_server_that_comes_back_is_used_again(postgres: PrivatePostgres) -> None:
    with Store(postgres.new_database()) as store:
        store.database.upgrade()
        job = submitted(store)
        postgres.stop()
        try:
            with pytest.raises(StoreError):
                store.jobs.get(job.id)
        finally:
            postgres.start()
        assert store.jobs.get(job.id) == job
        submitted(store)


def test_a_backup_is_a_store(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    with Store(f"sqlite:///{file}") as store:
        job = submitted(store)
        other = sqlite3.connect(file)
        other.execute(f"VACUUM INTO '{copy}'")
        other.close()
    with Store(f"sqlite:///{copy}") as restored:
        restored.prepare()
        restored.database.examine()
        assert restored.jobs.get(job.id) == job
        submitted(restored)


def test_a_secret_is_overwritten_when_its_job_ends(file: Path) -> None:
    with Store(f"sqlite:///{file}") as store:
        job = submitted(store, a_job(secrets={"password": SECRET}))
    assert SECRET.encode() in file.read_bytes()
    with Store(f"sqlite:///{file}") as store:
        store.jobs.cancel(job.id)
    assert SECRET.encode() not in file.read_bytes()
