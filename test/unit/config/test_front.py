"""What [front], [engine] and [ala] mean, what is refused, and that nothing is let in that should not come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config.serving import CartSettings, EngineSettings, FrontSettings, JobSettings
from unit.config.sites import Site

#: As it is printed where the job front is described, paths apart.
PRINTED = """\
[front]
enabled = True
host = 127.0.0.1
port = 6543
anonymous = submit          # none (default) | read | submit | admin; only ever on loopback
[endpoints]
  [[localhost]]
  url = file://{top}/local
  [[hpc1]]
  url = sftp://user@hpc1.example.org/scratch/data      # ssh endpoints use rsync where both ends have it
  ssh_config = {top}/ssh_config
  [[tape]]
  url = file://{top}/archive
  role = archive
"""


def jobs(site: Site, text: str) -> JobSettings:
    site.write_global(text)
    found = site.load().jobs
    assert found is not None
    return found


def private(path: Path, text: str = "secret\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_what_is_printed_works_as_printed(site: Site) -> None:
    for name in ("local", "archive"):
        (site.top / name).mkdir()
    (site.top / "ssh_config").touch()
    site.write_global(PRINTED.format(top=site.top))
    settings = site.load()
    assert settings.warnings == ()
    found = settings.jobs
    assert found is not None
    assert (found.enabled, found.directory) == (True, settings.state_dir / "jobs")
    assert (found.front.host, found.front.port, found.front.anonymous) == ("127.0.0.1", 6543, "submit")
    localhost, hpc1, tape = found.endpoints
    assert (localhost.name, localhost.scheme, localhost.base) == ("localhost", "file", f"{site.top}/local")
    assert (hpc1.name, hpc1.scheme, hpc1.user, hpc1.host) == ("hpc1", "sftp", "user", "hpc1.example.org")
    assert (hpc1.base, hpc1.port, hpc1.ssh_config) == ("/scratch/data", None, site.top / "ssh_config")
    assert (tape.name, tape.role) == ("tape", "archive")


@pytest.mark.parametrize("before", ["", "[global]\ndata_stream_list =\n"], ids=["alone", "without streams"])
def test_what_is_printed_is_a_whole_global_file(site: Site, before: str) -> None:
    for name in ("local", "archive"):
        (site.top / name).mkdir()
    (site.top / "ssh_config").touch()
    site.write("global.ini", before + PRINTED.format(top=site.top))
    settings = site.load()
    assert (settings.streams, settings.warnings) == ((), ())
    assert settings.jobs is not None and settings.jobs.enabled


def test_a_front_that_is_not_enabled_does_not_stand_in_for_the_list_of_streams(site: Site) -> None:
    site.write("global.ini", "[front]\nenabled = False\n")
    assert site.problem().key == "data_stream_list"


def test_without_a_word_of_jobs_there_are_none(site: Site) -> None:
    site.write_global()
    assert site.load().jobs is None


@pytest.mark.parametrize("section", ["front", "engine", "endpoints", "ala"])
def test_any_of_the_sections_says_where_jobs_are_kept_and_starts_nothing(site: Site, section: str) -> None:
    found = jobs(site, f"[{section}]\n")
    directory = site.top / "state" / "jobs"
    assert found == JobSettings(
        enabled=False,
        directory=directory,
        front=FrontSettings(),
        engine=EngineSettings(database_url=f"sqlite:///{directory}/store.sqlite"),
        carts=CartSettings(volume=directory / "carts"),
    )


def test_the_environment_may_speak_of_jobs(site: Site) -> None:
    site.write_global()
    site.environ["CONFIG__front__port"] = "7000"
    found = site.load().jobs
    assert found is not None
    assert found.front.port == 7000


def test_every_key_has_its_effect(site: Site) -> None:
    found = jobs(
        site,
        """\
        [front]
        dialects = dm REST
        url_schemes = https, s3
        url_hosts = *.Example.org, "data.example.com"
        allow_private_addresses = yes
        max_request = 0.5
        max_content = 2
        max_items = 5
        max_unfinished = 6
        requests_per_second = 2.5
        sync_timeout = 1m
        datamanager_dialect = Released
        xmlrpc_forget_completed = True
        [engine]
        threads = 2
        owner_max_running = 3
        lease = 5
        retry_count = 0
        retry_pause = 0.5
        give_up_after = 1h
        retention = 1
        [endpoints]
        [[here]]
        url = file:///
        base = ../data
        [ala]
        destination = here/ala
        occurrence_url = https://ala.example.org/o?q=${lsid}
        metadata_url = https://ala.example.org/m/${lsid}
        sleep_time = 0
        """,
    )
    assert found.front == FrontSettings(
        dialects=("rest", "dm"),
        url_schemes=("https", "s3"),
        url_hosts=("*.example.org", "data.example.com"),
        allow_private_addresses=True,
        max_request=1 << 19,
        max_content=2 << 20,
        max_items=5,
        max_unfinished=6,
        requests_per_second=2.5,
        sync_timeout=60.0,
        datamanager_dialect="released",
        xmlrpc_forget_completed=True,
        ala_destination="here/ala",
        ala_occurrence_url="https://ala.example.org/o?q=${lsid}",
        ala_metadata_url="https://ala.example.org/m/${lsid}",
        ala_sleep_time=0.0,
    )
    assert found.engine == EngineSettings(
        database_url=found.engine.database_url,
        threads=2,
        owner_max_running=3,
        lease=5.0,
        retry_count=0,
        retry_pause=0.5,
        give_up_after=3600.0,
        retention=86400.0,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
@pytest.mark.parametrize("anonymous", ["none", "read", "submit", "admin"])
def test_on_loopback_anybody_may_be_let_in(site: Site, host: str, anonymous: str) -> None:
    front = jobs(site, f"[front]\nhost = {host}\nanonymous = {anonymous}\n").front
    assert (front.host, front.anonymous) == (host.strip("[]"), anonymous)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "front.example.org", "localhost.org"])
@pytest.mark.parametrize(
    ("rest", "key"),
    [
        ("", "host"),
        ("certificate = cert.pem\n", ""),
        ("certificate = cert.pem\ncertificate_key = key.pem\n", ""),
        ("behind_proxy = True\n", ""),
        ("anonymous = read\ncertificate = cert.pem\n", "anonymous"),
        ("anonymous = submit\nbehind_proxy = True\n", "anonymous"),
        ("anonymous = admin\ncertificate = cert.pem\nbehind_proxy = True\n", "anonymous"),
    ],
)
def test_beyond_loopback_only_tokens_and_only_by_tls(site: Site, host: str, rest: str, key: str) -> None:
    private(site.conf / "cert.pem")
    private(site.conf / "key.pem")
    text = f"[front]\nhost = {host}\n{rest}"
    if not key:
        assert jobs(site, text).front.host == host
        return
    site.write_global(text)
    problem = site.problem()
    assert (problem.section, problem.key) == ("front", key)
    assert "reached by others" in problem.message
    assert "behind_proxy" in problem.message or "mistamover token create" in problem.hint


def test_beyond_loopback_all_that_is_wrong_is_told_at_once(site: Site) -> None:
    site.write_global("[front]\nhost = 0.0.0.0\nanonymous = submit\n")
    assert sorted(problem.key for problem in site.problems()) == ["anonymous", "host"]


def test_a_proxy_lets_in_nobody_without_a_token(site: Site) -> None:
    site.write_global("[front]\nanonymous = read\nbehind_proxy = True\n")
    problem = site.problem()
    assert (problem.key, "by the proxy" in problem.message) == ("anonymous", True)


@pytest.mark.parametrize(
    ("text", "section", "key", "words", "hint"),
    [
        ("anonymous = write\n", "front", "anonymous", "none, read, submit, admin", ""),
        ("dialects = rest xmlrcp\n", "front", "dialects", '"xmlrcp" is not known', 'did you mean "xmlrpc"?'),
        ("url_schemes = file\n", "front", "url_schemes", "every file of this host", "file:///DIRECTORY"),
        ("url_schemes = h_p\n", "front", "url_schemes", "not the scheme of a URL", ""),
        ("certificate_key = key.pem\n", "front", "certificate_key", "expected both", "certificate"),
        ("certificate = open.pem\n", "front", "certificate", "can be read by others", ""),
        ("certificate = key.pem\ncertificate_key = open.pem\n", "front", "certificate_key", "read by others", ""),
        ("certificate = none.pem\ncertificate_key = key.pem\n", "front", "certificate", "there is no file", ""),
        ("prot = 1\n", "front", "prot", "unknown key", 'did you mean "port"?'),
        ("[engine]\nlease = 0.1\n", "engine", "lease", "2 or more", ""),
        ("[engine]\nthreads = 0\n", "engine", "threads", "from 1 to 256", ""),
        ("[engine]\ndatabase_url = mysql://x/y\n", "engine", "database_url", '"mysql" of databases', ""),
        ("[engine]\ndatabase_url = sqlite3:///x\n", "engine", "database_url", "not known", 'did you mean "sqlite"?'),
        ("[engine]\ndatabase_url = sqlite://\n", "engine", "database_url", "does not name a file", ""),
        ("[engine]\ndatabase_url = sqlite:///:memory:\n", "engine", "database_url", "does not name a file", ""),
        ("[engine]\ndatabase_url = sqlite:///no/s.db\n", "engine", "database_url", "there is no directory", "make"),
        ("[engine]\ndatabase_url = s3cr3t\n", "engine", "database_url", "is not the URL", ""),
        ("[engine]\ndatabase_url = postgresql://u@h\n", "engine", "database_url", "names no database", ""),
        ("[engine]\ndatabase_url = postgresql://u@h/d\ndatabase_password_file = open.pem\n",
         "engine", "database_password_file", "can be read by others", ""),
        ("[ala]\ndestination = x/../y\n[endpoints]\n[[x]]\nurl = sftp://h/x\n", "ala", "destination", "upwards", ""),
        ("[ala]\nmetadata_url = file:///etc/passwd\n", "ala", "metadata_url", "not a URL to load from", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_where_it_is(
    site: Site, text: str, section: str, key: str, words: str, hint: str
) -> None:
    private(site.conf / "key.pem")
    private(site.conf / "open.pem", mode=0o644)
    path = site.write_global(f"[front]\n{text}")
    problem = site.problem()
    assert (problem.file, problem.section, problem.key) == (str(path), section, key)
    assert problem.line is not None
    assert path.read_text().splitlines()[problem.line - 1].startswith(key)
    assert words in problem.message
    assert hint in problem.hint


def url_of(site: Site, url: str, more: str = "") -> str:
    return jobs(site, f"[engine]\ndatabase_url = {url}\n{more}").engine.database_url


def test_the_file_of_a_database_is_found_from_the_global_file(site: Site) -> None:
    assert url_of(site, "sqlite:///jobs.db") == f"sqlite:///{site.conf}/jobs.db"
    assert url_of(site, f"sqlite:///{site.top}/jobs.db") == f"sqlite:///{site.top}/jobs.db"


def test_a_database_server_is_spoken_to_by_the_driver_that_is_there(site: Site) -> None:
    assert url_of(site, "postgresql://u@h:5433/d") == "postgresql+psycopg://u@h:5433/d"
    assert url_of(site, "postgresql+psycopg:///d?host=/run/pg") == "postgresql+psycopg:///d?host=/run/pg"


def test_the_password_of_a_database_comes_from_a_private_file(site: Site) -> None:
    private(site.conf / "pw", "s3c/r@t\n")
    found = url_of(site, "postgresql://u@h/d", "database_password_file = pw\n")
    assert found == "postgresql+psycopg://u:s3c%2Fr%40t@h/d"
    assert "s3c" not in repr(site.load())


def test_a_password_in_the_url_of_a_database_is_for_private_files(site: Site) -> None:
    url = "postgresql://u:s3cr3t@h/d"
    assert url_of(site, url) == "postgresql+psycopg://u:s3cr3t@h/d"
    site.global_file.chmod(0o644)
    problem = site.problem()
    assert (problem.key, "holds a password" in problem.message) == ("database_url", True)
    assert "s3cr3t" not in str(problem)
    site.write_global().chmod(0o644)
    site.environ["CONFIG__engine__database_url"] = url
    found = site.load().jobs
    assert found is not None
    assert "s3cr3t" in found.engine.database_url


def test_stream_files_do_not_speak_of_jobs(site: Site) -> None:
    site.write_global()
    site.write_stream("[front]\nenabled = True\n")
    settings = site.load()
    assert settings.jobs is None
    assert "global file only" in settings.warnings[0]
