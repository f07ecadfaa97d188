"""The front as a process of its own, with a worker beside it, and the command `job` that talks to them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from front_sites import Served
from receivers import certificate
from support import TOP, free_port, wait_until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A front and a worker that all tests of this file share."""
    made = Served(tmp_path_factory.mktemp("served"))
    with made.running("front", "worker"):
        yield made


# -- the command ------------------------------------------------------------------------------


def test_a_job_is_submitted_waited_for_and_shown(served: Served) -> None:
    (served.data / "in/a").write_bytes(b"ten bytes.")
    done = served.job("submit", "here:in/a", "here:out/a", "--wait", "--label", "one", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["state"], job["label"]) == ("done", "one")
    assert (served.data / "out/a").read_bytes() == b"ten bytes."
    shown = served.job("show", job["id"])
    assert shown.returncode == 0
    assert "here:in/a -> here:out/a" in shown.stdout
    assert "10 B of 10 B" in shown.stdout
    listed = served.job("list", "--label", "one", "--state", "done")
    assert job["id"] in listed.stdout
    assert served.job("wait", job["id"]).returncode == 0


def test_a_job_that_fails_is_status_1_with_its_reason(served: Served) -> None:
    failed = served.job("submit", "here:in/nothing", "here:out/nothing", "--wait")
    assert failed.returncode == 1
    assert "failed" in failed.stdout
    assert str(served.data) not in failed.stdout


def test_a_key_makes_one_job_of_two_submissions(served: Served) -> None:
    (served.data / "in/k").write_bytes(b"k")
    first, again = (served.job("submit", "here:in/k", "here:out/k", "--key", "mine") for _ in range(2))
    assert first.stdout == again.stdout != ""


def test_a_cancelled_job_is_status_3_and_time_that_is_over_4(tmp_path: Path) -> None:
    alone = Served(tmp_path)
    (alone.data / "in/a").write_bytes(b"x")
    with alone.running("front"):
        job = alone.job("submit", "here:in/a", "here:out/a").stdout.strip()
        assert alone.job("wait", job, "--timeout", "0.3").returncode == 4
        cancelled = alone.job("cancel", job)
        assert (cancelled.returncode, cancelled.stdout) == (0, f"{job}: cancelled\n")
        assert alone.job("wait", job).returncode == 3
        assert "queued" in alone.job("retry", job).stdout
        # Who waits is told when the front ends, and nothing hangs.
        waiting = threading.Thread(target=alone.job, args=("wait", job, "--timeout", "5"))
        waiting.start()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("submit", "here:in/a"), 2, "name at least one source"),
        (("submit", "in/a", "here:b"), 2, "is no place"),
        (("submit", "hre:in/a", "here:b"), 1, "did you mean here?"),
        (("submit", "here:in/a", "here:b", "--hash", "crc32:00"), 1, "crc32"),
        (("show", "nothing"), 1, "there is no job"),
        (("show", "x", "--url", "ftp://x"), 2, "no URL of a front"),
        (("show", "x", "--url", "http://u:p@localhost"), 2, "no URL of a front"),
        (("list", "--token-file", "/etc/passwd"), 2, "chmod 600"),
        (("list", "--limit", "0"), 2, "expected 1 or more"),
        (("frob",), 2, "invalid choice"),
    ],
)
def test_what_is_wrong_is_said(served: Served, words: tuple[str, ...], status: int, said: str) -> None:
    answer = served.job(*words)
    assert answer.returncode == status, answer.stderr
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_nobody_at_home_and_somebody_else_at_home(tmp_path: Path) -> None:
    site = Served(tmp_path)
    away = site.job("list", "--url", f"http://127.0.0.1:{free_port()}")
    assert away.returncode == 1
    assert "does the front run" in away.stderr


def test_a_token_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("mm_secret\n")
    site = Served(tmp_path / "site")
    refused = site.job("list", "--url", "http://data.example.org", "--token-file", str(token))
    assert refused.returncode == 2
    assert "in the clear" in refused.stderr
    assert "mm_secret" not in refused.stderr


# -- the process ------------------------------------------------------------------------------


def test_the_port_of_another_one_is_named(served: Served) -> None:
    second = served.start("front")
    assert second.wait(30) == 1
    assert f"port {served.port}: it is taken" in served.said()
    assert "ss -ltnp" in served.said()
    assert served.job("list").returncode == 0


def test_tls_with_tokens(tmp_path: Path) -> None:
    file, _ = certificate(tmp_path)
    key = tmp_path / "key.pem"
    key.chmod(0o600)
    site = Served(tmp_path / "site", certificate=file, certificate_key=key, anonymous="none")
    with site.running("front"):
        context = ssl.create_default_context(cafile=str(file))
        connection = http.client.HTTPSConnection("127.0.0.1", site.port, timeout=20, context=context)
        connection.request("GET", "/api/v1/jobs")
        assert connection.getresponse().status == 401
        connection.close()
        untrusted = site.job("list")
        assert untrusted.returncode == 1
        assert "cannot be trusted" in untrusted.stderr
        unknown = site.job("list", "--ca-file", str(file))
        assert unknown.returncode == 1
        assert "--token-file" in unknown.stderr
        assert _healthy(site, file).returncode == 0
    assert "refused" in _healthy(site, file).stderr


def _healthy(site: Served, certificate_file: Path) -> subprocess.CompletedProcess[str]:
    """Run what the health checks of containers run."""
    words = [TOP / "conf/compose/healthy.py", f"https://127.0.0.1:{site.port}", certificate_file]
    argv = [sys.executable, *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_a_bad_certificate_is_said(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.touch(mode=0o600)
    file.write_text("nothing of the kind\n")
    site = Served(tmp_path / "site", certificate=file)
    front = site.start("front")
    assert front.wait(30) == 1
    assert "cannot be used" in site.said()
    assert "Traceback" not in site.said()


def test_a_download_goes_on_while_the_front_ends_and_a_waiting_client_is_answered(tmp_path: Path) -> None:
    site = Served(tmp_path)
    size = 60_000_000
    with (site.data / "in/large").open("wb") as file:
        file.truncate(size)
    with site.running("front") as (front,), ExitStack() as stack:
        job = site.job("submit", "here:in/none", "here:out/none").stdout.strip()
        waiting = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
        stack.callback(waiting.close)
        waiting.request("GET", f"/api/v1/jobs/{job}?wait=300")
        download = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
        stack.callback(download.close)
        download.request("GET", "/api/v1/endpoints/here/content?path=in/large")
        answer = download.getresponse()
        assert len(answer.read(1_000)) == 1_000
        front.send_signal(signal.SIGTERM)
        wait_until(lambda: not site.listens(), 20, "it takes no connections any more")
        assert json.loads(waiting.getresponse().read())["state"] == "queued"
        assert 1_000 + len(answer.read()) == size
        assert front.wait(30) == 0


def test_the_files_of_the_front_are_private(served: Served) -> None:
    jobs = served.site.state / "jobs"
    assert jobs.stat().st_mode & 0o077 == 0
    for directory, _, names in os.walk(jobs):
        for name in names:
            status = (Path(directory) / name).lstat()
            assert status.st_mode & 0o077 == 0 or not os.path.isfile(Path(directory) / name), name


def test_an_object_is_uploaded_and_its_content_replaced(served: Served) -> None:
    def ask(method: str, path: str, content: bytes | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        connection.request(method, f"/api/v1{path}", content)
        answer = connection.getresponse()
        value = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, value
        return dict(value)

    made = ask("PUT", "/endpoints/here/content?path=up/object&register=true&wait=30", b"first")
    assert made["state"] == "done", made
    (identifier,) = made["result"]["objects"]
    before = ask("GET", f"/objects/{identifier}")
    assert (before["state"], before["size"]) == ("ACTIVE", 5)
    assert before["hashsum"] == hashlib.sha256(b"first").hexdigest()
    assert ask("PUT", f"/objects/{identifier}/content?wait=30", b"the second")["state"] == "done"
    after = ask("GET", f"/objects/{identifier}")
    assert (after["size"], after["lock"]) == (10, "")
    assert after["hashsum"] == hashlib.sha256(b"the second").hexdigest()
    assert (served.data / "up/object").read_bytes() == b"the second"
    assert not any((served.site.state / "jobs/spool").iterdir())
