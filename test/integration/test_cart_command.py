"""`mistamover cart` against a front that listens: what it prints, its exit statuses, downloads that go on."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cart_sites
import fronts
from cart_sites import SEED, failed, filled, newest
from fronts import Front
from mistamover.cli.main import main
from mistamover.jobs.model import Scope

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("carts")
    (directory / "data").mkdir()
    settings = fronts.settings(directory / "jobs", directory / "data", dialects=("rest", "cart"), anonymous="submit")
    with fronts.running(cart_sites.with_carts(settings)) as running:
        yield running


@pytest.fixture
def run(front: Front, capsys: pytest.CaptureFixture[str]) -> Run:
    """What runs the command; returns its exit status, and what it printed."""

    def called(verb: str, *words: str, url: str = "") -> tuple[int, str, str]:
        status = main(["cart", verb, "--url", url or f"http://127.0.0.1:{front.port}", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return called


def test_a_cart_is_made_of_words_or_of_a_document(front: Front, run: Run, tmp_path: Path) -> None:
    status, out, _ = run("create", "105=1/a", "106", "--uid", "words", "--format", "zip", "--store", "--no-manifest")
    assert (status, out) == (0, "words\n")
    form = newest(front, "words").form
    assert (form.format, form.stored, form.manifest) == ("zip", True, False)
    items = front.store.jobs.items(newest(front, "words").job.id)
    assert [item.target.path for item in items if item.target] == ["1/a", "106"]
    (tmp_path / "cart.json").write_text(json.dumps(cart_sites.asked(SEED)))
    status, out, _ = run("create", "--from", str(tmp_path / "cart.json"), "--json")
    made = json.loads(out)
    assert status == 0 and made["state"] == "waiting" and len(made["uid"]) == 32
    assert newest(front, made["uid"]).form.algorithm == "md5"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("create",), 2, "name the files"),
        (("create", "=x"), 2, "is no file"),
        (("create", "--from", "/nowhere.json"), 2, "cannot be read"),
        (("create", "a=../x"), 1, "`..` is not allowed"),
        (("create", "a", "--archive", "nowhere"), 1, "there is no endpoint"),
        (("show", "unknown"), 1, "there is no cart of that uid"),
        (("retry", "unknown"), 1, "there is no cart of that uid"),
        (("delete", "unknown"), 1, "there is no cart of that uid"),
        (("get", "unknown"), 1, "there is no cart of that uid"),
        (("purge", "--unused", "soon"), 2, "is no age"),
    ],
)
def test_what_is_wrong_is_said(run: Run, words: tuple[str, ...], status: int, said: str) -> None:
    found, _, err = run(*words)
    assert found == status
    assert said in err and "Traceback" not in err


def test_carts_are_listed_and_shown(front: Front, run: Run) -> None:
    for uid in ("one", "two"):
        cart_sites.posted(front, uid)
    filled(front, "one")
    failed(front, "two", "No Space Available")
    status, out, _ = run("list", "--limit", "2")
    assert status == 0
    header, first, second = out.splitlines()
    assert header.split()[:3] == ["cart", "state", "owner"]
    assert "two" in first and "error" in first and "No Space Available" in first
    assert "one" in second and "ready" in second and "3 of 3" in second
    _, out, _ = run("list", "--state", "error", "--json")
    assert {cart["uid"] for cart in json.loads(out)["carts"]} == {"two"}
    _, out, _ = run("show", "one")
    assert "state:       ready" in out and "tar, made on the fly, with a manifest in md5" in out
    status, out, _ = run("retry", "two")
    assert (status, out) == (0, "two: waiting (0 of 3)\n") or out.startswith("two: staging")
    status, _, err = run("retry", "one")
    assert status == 1 and "only what failed" in err


def test_waiting_tells_how_it_went(front: Front, run: Run) -> None:
    def work() -> None:
        until = time.monotonic() + 20
        while front.store.carts.newest("waited", owner="anonymous") is None and time.monotonic() < until:
            threading.Event().wait(0.02)
        failed(front, "waited", "No Space Available")

    worker = threading.Thread(target=work)
    worker.start()
    status, out, _ = run("create", "a", "--uid", "waited", "--wait")
    worker.join(30)
    assert (status, out) == (1, "waited: error: No Space Available (0 of 1)\n")


def test_delete_and_purge(front: Front, run: Run) -> None:
    for uid in ("old", "new"):
        cart_sites.posted(front, uid)
    filled(front, "old")
    status, out, _ = run("purge", "--unused", "180d")
    assert (status, out) == (0, "0 deleted\n")
    with front.store.database.write() as connection:
        connection.exec_driver_sql("update carts set last_used = last_used - 181 * 86400 where uid in ('old', 'new')")
    status, out, _ = run("purge")
    # What waits is not purged, however old it is.
    assert (status, out) == (0, "1 deleted\n")
    assert front.store.carts.newest("old", owner="anonymous") is None
    status, out, _ = run("delete", "new")
    assert (status, out) == (0, "new: deleted\n")
    other = front.as_(Scope.SUBMIT, "another")
    cart_sites.posted(other, "theirs")
    assert run("delete", "theirs")[0] == 1


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_download_goes_on_where_it_was_cut_off(
    front: Front, run: Run, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"large": os.urandom(9_000_000), "small": b"x"}
    uid = f"large-{form}"
    cart_sites.posted(front, uid, files, format=form)
    filled(front, uid, files)
    whole = front.api("GET", f"/carts/{uid}/content").content
    monkeypatch.chdir(tmp_path)
    with Cutting(front.port) as relay:
        status, out, err = run("get", uid, "-o", "got", url=f"http://127.0.0.1:{relay.port}")
    assert (status, out, err) == (0, "got\n", "")
    assert (tmp_path / "got").read_bytes() == whole
    assert relay.cuts == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["got"]
    status, _, err = run("get", uid, "-o", "got")
    assert status == 2 and "is there already" in err
    # What an earlier one left is gone on with, too.
    tag = front.api("HEAD", f"/carts/{uid}/content").headers["etag"].strip('"')
    (tmp_path / f"got.{tag}.part").write_bytes(whole[:5_000_000] if form == "tar" else b"nonsense")
    assert run("get", uid, "-o", "got", "--force")[0] == 0
    assert (tmp_path / "got").read_bytes() == whole


def test_without_a_name_it_is_called_as_the_front_calls_it(
    front: Front, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cart_sites.posted(front, "named")
    cart = filled(front, "named")
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("get", "named")
    name = time.strftime("data_%Y_%m_%d_%H_%M_%S.tar", time.localtime(cart.job.ended))
    assert (status, out) == (0, f"{name}\n")
    assert (tmp_path / name).is_file()


class Cutting:
    """A relay before the front that cuts the first two downloads off behind some megabytes."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.cuts = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Cutting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._to), timeout=20) as server:
                asked = client.recv(1 << 16)
                server.sendall(asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                left = 3_000_000 if asked.startswith(b"GET") and self.cuts < 2 else None
                while piece := server.recv(1 << 16):
                    client.sendall(piece)
                    if left is not None:
                        left -= len(piece)
                        if left < 0:
                            self.cuts += 1
                            break
