"""The engine of Celery in the configuration: its broker, whose password nobody sees, and groups of workers."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from mistamover.cli import worker
from mistamover.config.serving import EngineSettings
from mistamover.errors import UsageError
from unit.config.sites import Site
from unit.config.test_front import jobs, private

KIND = "[engine]\nkind = celery\n"


def engine(site: Site, text: str) -> EngineSettings:
    return jobs(site, text).engine


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("amqp://u@h", "amqp://u@h//"),
        ("amqp://u@h:5673/v", "amqp://u@h:5673/v"),
        ("amqps://u@h/", "amqps://u@h//"),
        ("redis://h", "redis://h/0"),
        ("amqp://u@[::1]:5673/a%2Fb", "amqp://u@[::1]:5673/a%2Fb"),
        ("rediss://h:6380/3", "rediss://h:6380/3"),
        ("redis://h/3/", "redis://h/3"),
    ],
)
def test_a_broker_is_known_by_its_url(site: Site, written: str, url: str) -> None:
    found = engine(site, f"{KIND}broker_url = {written}\nannounce_again = 7\n")
    assert (found.kind, found.broker_url, found.announce_again) == ("celery", url, 7.0)
    assert site.load().warnings == ()


@pytest.mark.parametrize(
    ("written", "url"), [("amqps://u@h/v", "amqps://u:s3c%2Fr%40t@h/v"), ("redis://127.0.0.1/1", "redis://:s3c%2Fr%40t@127.0.0.1/1")]
)  # fmt: skip
def test_its_password_comes_from_a_private_file(site: Site, written: str, url: str) -> None:
    private(site.conf / "pw", "s3c/r@t\n")
    assert engine(site, f"{KIND}broker_url = {written}\nbroker_password_file = pw\n").broker_url == url
    settings = site.load()
    assert "s3c" not in repr(settings) and settings.warnings == ()


def test_a_password_in_the_clear_is_warned_of(site: Site) -> None:
    private(site.conf / "pw")
    engine(site, f"{KIND}broker_url = redis://far/0\nbroker_password_file = pw\n")
    (warning,) = site.load().warnings
    assert "broker_url" in warning and "in the clear" in warning and "use rediss://" in warning


def test_a_password_in_a_file_that_others_read_is_refused(site: Site) -> None:
    path = site.write_global(f"{KIND}broker_url = amqps://u:s3cr3t@h/v\n")
    path.chmod(0o644)
    problem = site.problem()
    assert (problem.key, "others can read this file" in problem.message) == ("broker_url", True)
    assert "s3cr3t" not in repr(problem)


@pytest.mark.parametrize(
    ("text", "key", "words", "hint"),
    [
        ("kind = rabbit\n", "kind", "embedded, celery", ""),
        ("kind = celery\n", "broker_url", "is not set, and kind is celery", ""),
        ("kind = celery\nbroker_url = s3cr3t\n", "broker_url", "is not the URL of a broker", ""),
        ("kind = celery\nbroker_url = amqp://u:s3cr3t;@h/v\n", "broker_url", "is not the URL of a broker", ""),
        ("kind = celery\nbroker_url = ampq://h\n", "broker_url", '"ampq" of brokers', 'did you mean "amqp"?'),
        ("kind = celery\nbroker_url = redis://h/jobs\n", "broker_url", "no number of a database", ""),
        ("kind = celery\nbroker_url = amqp://h\nbroker_password_file = pw\n", "broker_url", "names no user", ""),
        ("kind = celery\nbroker_url = amqp://u@h\nbroker_password_file = open\n", "broker_password_file", "others", ""),
        ("kind = celery\nbroker_url = amqps://u@h\nbroker_ca_file = none\n", "broker_ca_file", "there is no file", ""),
        ("groups = a/b\n", "groups", "no name of a group", ""),
        ("groups_only = True\n", "groups_only", "no groups are set", ""),
    ],
)
def test_what_is_wrong_is_told(site: Site, text: str, key: str, words: str, hint: str) -> None:
    private(site.conf / "pw")
    private(site.conf / "open", mode=0o644)
    site.write_global(f"[engine]\n{text}")
    problem = site.problem()
    assert (problem.section, problem.key) == ("engine", key)
    assert words in problem.message and hint in problem.hint and "s3cr3t" not in repr(problem)


def test_a_broker_that_nobody_asks_for_is_warned_of(site: Site) -> None:
    assert engine(site, "[engine]\nbroker_url = redis://h/0\n").broker_url == ""
    (warning,) = site.load().warnings
    assert "broker_url" in warning and "kind is embedded" in warning


def test_a_package_that_is_missing_is_named_with_its_extra(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr("mistamover.config.broker.find_spec", lambda name: None if name == "celery" else known(name))
    for name in [name for name in sys.modules if name == "celery"]:
        monkeypatch.delitem(sys.modules, name)
    site.write_global(f"{KIND}broker_url = redis://h/0\n")
    problem = site.problem()
    assert (problem.key, problem.hint) == ("kind", "pip install mistamover[celery]")


def test_endpoints_and_workers_have_groups(site: Site) -> None:
    found = jobs(
        site,
        "[engine]\ngroups = hpc1, lab\ngroups_only = True\n[endpoints]\n[[a]]\nurl = sftp://h/x\nworkers = hpc1\n"
        "[[b]]\nurl = sftp://h/y\n",
    )
    assert (found.engine.groups, found.engine.groups_only) == (("hpc1", "lab"), True)
    assert [each.workers for each in found.endpoints] == ["hpc1", ""]


def test_a_group_has_a_name(site: Site) -> None:
    site.write_global("[endpoints]\n[[a]]\nurl = sftp://h/x\nworkers = @here\n")
    problem = site.problem()
    assert (problem.section, problem.key) == ("endpoints/a", "workers")


def test_the_command_line_names_groups_in_place_of_the_file(site: Site) -> None:
    site.write_global("[engine]\ngroups = lab\n")
    settings = worker.of_groups(site.load(), "hpc1, hpc2 hpc1")
    assert settings.jobs is not None and settings.jobs.engine.groups == ("hpc1", "hpc2")
    with pytest.raises(UsageError, match="no name of a group"):
        worker.of_groups(settings, "a/b")
