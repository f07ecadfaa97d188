"""The data cart's dialect on the wire, row by row, at `/cart` and at the root."""

from __future__ import annotations

import io
import json
import re
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cart_sites
import fronts
from cart_sites import SEED, TIME, asked, failed, filled, newest, posted
from fronts import Answer, Front
from mistamover import __version__
from mistamover.jobs.model import Scope

GOOD = asked(SEED)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("carts")
    (directory / "data").mkdir()
    return directory


@pytest.fixture(scope="module")
def front(places: Path) -> Iterator[Front]:
    """A front with carts at the root, for all tests of this file."""
    settings = fronts.settings(
        places / "jobs", places / "data", dialects=("rest", "dm", "cart"), carts_at_root=True, anonymous="submit"
    )
    with fronts.running(cart_sites.with_carts(settings, max_files=1_000)) as running:
        yield running


@pytest.fixture(scope="module")
def as_cartd(places: Path) -> Iterator[Front]:
    """Another one, for the clients of the released service."""
    settings = fronts.settings(places / "cartd", places / "data", dialects=("cart",), cart_dialect="cartd")
    with fronts.running(cart_sites.with_carts(settings)) as running:
        yield running


@pytest.fixture(params=["/cart", ""])
def top(request: pytest.FixtureRequest) -> str:
    """What is before the uid."""
    return str(request.param)


def told(answer: Answer) -> tuple[int, str]:
    """Given an error, return its status and message; it has the one shape of all errors."""
    body = answer.json
    assert set(body) == {"status", "message", "traceback", "version"}
    assert (body["traceback"], body["version"]) == ("", __version__)
    assert body["status"].startswith(f"{answer.status} ")
    assert answer.headers["content-type"] == "application/json"
    return answer.status, body["message"]


def status(front: Front, path: str) -> tuple[int, str, str]:
    """Return what HEAD tells: its status, and the two headers that all clients need."""
    answer = front.ask("HEAD", path)
    assert answer.content == b""
    return answer.status, answer.headers["x-pacifica-status"], answer.headers["x-pacifica-message"]


# -- above the carts ------------------------------------------------------------------------------


def test_it_is_up_and_running(front: Front, top: str) -> None:
    answer = front.ask("GET", f"{top}/")
    assert (answer.status, answer.json) == (200, {"message": "Pacifica Cartd Interface Up and Running"})
    assert answer.headers["content-type"] == "application/json"
    assert front.ask("HEAD", f"{top}/").status == 200
    assert front.ask("GET", "/cart").status == 200


@pytest.mark.parametrize("verb", ["POST", "DELETE"])
def test_without_a_uid_there_is_nothing_to_do(front: Front, top: str, verb: str) -> None:
    assert told(front.ask(verb, f"{top}/", GOOD)) == (404, "Missing parameters: uid")


def test_a_test_of_the_released_service_is_content(as_cartd: Front) -> None:
    assert status(as_cartd, "/cart/")[:2] == (500, "error")
    assert told(as_cartd.ask("DELETE", "/cart/")) == (500, "Missing parameters: uid")


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE", "PUT"])
def test_below_a_cart_there_is_nothing(front: Front, top: str, verb: str) -> None:
    assert told(front.ask(verb, f"{top}/a/b")) == (404, "Not Found")
    assert status(front, f"{top}/a/b/c")[0] == 404


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/some-uid"])
def test_other_verbs_are_not_allowed(front: Front, top: str, verb: str, path: str) -> None:
    answer = front.ask(verb, top + path, GOOD)
    assert told(answer)[0] == 405
    assert "GET" in answer.headers["allow"]


def test_the_two_headers_are_written_as_they_are_documented(front: Front) -> None:
    posted(front, "capitals")
    with socket.create_connection((front.host, front.port), timeout=10) as wire:
        wire.sendall(b"HEAD /capitals HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = b"".join(iter(lambda: wire.recv(4096), b""))
    assert b"\r\nX-Pacifica-Status: waiting\r\nX-Pacifica-Message: \r\n" in said


def test_other_dialects_are_where_they_were(front: Front) -> None:
    assert front.ask("GET", "/api/v1/health").json["status"] == "ok"
    assert front.ask("GET", "/DM/health").json == {"status": 200}
    # Nobody's paths are none of the root's carts where carts are not at the root.
    assert front.ask("GET", "/nothing-here").status == 404


def test_the_root_has_none_unless_it_is_said(as_cartd: Front) -> None:
    posted(as_cartd, "not-at-root")
    assert as_cartd.ask("GET", "/").status == 404
    assert as_cartd.ask("HEAD", "/not-at-root").status == 404
    assert as_cartd.ask("HEAD", "/cart/not-at-root").status == 204


# -- POST -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/json", "text/javascript", "", "application/x-www-form-urlencoded", "x"])
def test_any_content_type_makes_a_cart(front: Front, top: str, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = front.ask("POST", f"{top}/any-type", content=json.dumps(GOOD).encode(), headers=headers)
    assert (answer.status, answer.json) == (201, {"message": "Cart Processing has begun"})
    cart = newest(front, "any-type")
    assert (cart.job.label, cart.job.origin, cart.form.algorithm) == ("any-type", "cart", "md5")
    items = front.store.jobs.items(cart.job.id)
    assert [item.target.path for item in items if item.target] == list(SEED)
    assert [item.source.location.path for item in items if item.source.location] == ["foo.txt", "bar.csv", "baz.ini"]


def test_a_body_in_chunks_is_one_too(front: Front) -> None:
    text = json.dumps(GOOD).encode()
    assert front.ask("POST", "/chunked", content=iter([text[:50], text[50:]])).status == 201


def test_a_body_without_a_length_is_refused(front: Front, top: str) -> None:
    with socket.create_connection((front.host, front.port), timeout=10) as wire:
        wire.sendall(f"POST {top}/no-length HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        said = b"".join(iter(lambda: wire.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 411 ")
    assert b'"status":"411 Length Required"' in said


@pytest.mark.parametrize("text", [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 100_000, b'{"fileids": [}'])
def test_what_is_no_json_is_refused(front: Front, text: bytes) -> None:
    assert told(front.ask("POST", "/no-json", content=text)) == (400, "Invalid JSON document")


def _with(**said: Any) -> dict[str, Any]:
    return {"fileids": [{"id": "a", "path": "a", "hashtype": "md5", "hashsum": "", **said}]}


def _without(name: str) -> dict[str, Any]:
    body = _with()
    del body["fileids"][0][name]
    return body


TWO = {"id": "x", "hashtype": "", "hashsum": ""}


@pytest.mark.parametrize(
    "body",
    [
        [], "text", 5, None, {}, {"fileids": None}, {"fileids": {}}, {"fileids": []}, {"fileids": ["a"]},
        _without("id"), _without("path"), _with(id=None), _with(id=True), _with(id=1.5), _with(id=[]), _with(id=""),
        _with(path=5), _with(path=""), _with(path="/"), _with(path="."), _with(path="a/"), _with(path="a\0b"),
        _with(path="a//b"),
        _with(path="//etc/x"), _with(path="../../../x"), _with(path="/../x"), _with(path="a/../../x"),
        _with(path="x" * 256), _with(path="\ud800"), _with(id="\ud800"), _with(id="../x"),
        _with(path="..\\x"), _with(path="a/..\\..\\x"), _with(path="d/" * 101 + "x"),
        _with(path=("d" * 250 + "/") * 12 + "x"),
        _with(path=".mistamover-x"), _with(hashtype=5),
        _with(hashsum=5), _with(hashtype="", hashsum="0" * 32), _with(id=10**5000),
        {"fileids": [{**TWO, "path": "a"}, {**TWO, "path": "/a"}]},
        {"fileids": [{**TWO, "path": "a"}, {**TWO, "path": "a/b"}]},
        {"fileids": [{**TWO, "path": "a/b/c"}, {**TWO, "path": "a"}]},
        {"fileids": [{**TWO, "path": "manifest-sha256.txt"}]}, {**GOOD, "bundle": "yes"}, {**GOOD, "format": "rar"},
        {**GOOD, "layout": 5}, {**GOOD, "archive": "nowhere"},
    ],
)  # fmt: skip
def test_what_is_no_cart_is_refused_and_says_why(front: Front, body: object) -> None:
    limit = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(0)
        text = json.dumps(body).encode()
    finally:
        sys.set_int_max_str_digits(limit)
    code, message = told(front.ask("POST", "/refused", content=text))
    assert code == 400
    assert 10 < len(message) <= 1_000 and "\n" not in message
    assert front.store.carts.newest("refused", owner="anonymous") is None


def test_a_cart_has_so_many_files_and_no_more(front: Front) -> None:
    assert posted(front, "many", [f"f{number}" for number in range(1_000)]).status == 201
    assert told(posted(front, "more", [f"f{number}" for number in range(1_001)]))[0] == 413


@pytest.mark.parametrize("kind", ["md5", "sha1", "SHA256", "sha-512", "sha3_256", "sha3-384", "blake2b"])
def test_every_hash_of_this_python_is_known(front: Front, kind: str) -> None:
    assert front.ask("POST", "/hashes", _with(hashtype=kind)).status == 201


@pytest.mark.parametrize(
    "said", [{"hashtype": "crc99"}, {"hashtype": "shake_128"}, {"hashsum": "xyz"}, {"hashsum": "0"}]
)
def test_a_hash_that_cannot_be_makes_a_cart_that_will_fail(front: Front, said: dict[str, str]) -> None:
    assert front.ask("POST", "/odd-hash", _with(**said)).status == 201
    body = {"uid": "odd-hash", **_with(**said)}
    assert front.ask("POST", "/api/v1/carts", body).json["error"]["code"] in ("bad-hash", "unsupported-hash")


def test_what_nobody_knows_is_ignored_and_little_is_enough(front: Front) -> None:
    body = {"fileids": [{"id": 105, "path": "/1/2/foo.txt", "size": 5, "hashsum": None}], "user": "someone"}
    assert front.ask("POST", "/little", body).status == 201
    (item,) = front.store.jobs.items(newest(front, "little").job.id)
    assert item.source.location is not None and item.target is not None
    assert (item.source.location.path, item.target.path, item.hash_type) == ("105", "1/2/foo.txt", "")
    assert newest(front, "little").form.algorithm == "sha256"


@pytest.mark.parametrize("uid", ["a", "0b2c-4", "_x", "-x", "a.b.c", "F" * 64, "x" * 255])
def test_a_uid_is_chosen_by_the_client(front: Front, top: str, uid: str) -> None:
    assert front.ask("POST", f"{top}/{uid}", GOOD).status == 201
    assert status(front, f"{top}/{uid}") == (204, "waiting", "")


@pytest.mark.parametrize(
    "uid", [".hidden", "a%20b", "a~b", "%C3%A4", "x" * 256, "a:b", "..", "a;b", "api", "DM", "rpc2"]
)
def test_not_every_text_is_a_uid(front: Front, uid: str) -> None:
    assert told(front.ask("POST", f"/cart/{uid}", GOOD))[0] == 400
    assert front.ask("GET", f"/cart/{uid}").status == 404


@pytest.mark.parametrize("hidden", ["..%2f..%2fq", "a%2Fb", "a%5cb", "a%00b"])
def test_a_slash_that_is_hidden_is_refused(front: Front, top: str, hidden: str) -> None:
    for verb in ("POST", "GET", "DELETE"):
        assert told(front.ask(verb, f"{top}/{hidden}", GOOD))[0] == 400
    assert status(front, f"{top}/{hidden}")[:2] == (400, "error")


# -- HEAD and GET ---------------------------------------------------------------------------------


def test_a_cart_goes_through_its_states(front: Front, top: str) -> None:
    path = f"{top}/states"
    assert posted(front, "states", bundle=True).status == 201
    assert status(front, path) == (204, "waiting", "")
    claim = front.store.claims.claim(newest(front, "states").job.id, "w", 60)
    assert claim is not None
    assert status(front, path) == (204, "staging", "")
    front.store.claims.packaging(claim)
    assert status(front, path) == (204, "bundling", "")
    for _ in range(2):
        answer = front.ask("GET", path)
        assert (answer.status, answer.content) == (202, b"The cart is not ready for download.")
    front.store.claims.put_back(claim, not_before=None, reason="")
    filled(front, "states")
    assert status(front, path) == (204, "ready", "")
    assert front.ask("GET", path).status == 200


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("No Space Available", "No Space Available"),
        (
            "Failed to pull file(Failed to pull with error: File hash does not match provided hash)",
            "Failed to pull file(Failed to pull with error: File hash does not match provided hash)",
        ),
        ("two\nlines\r\n and \x01 ü ☃", r"two lines and \x01 ü ?"),
        ("long " * 400, None),
    ],
)
def test_an_error_is_told_in_one_line(front: Front, reason: str, message: str | None) -> None:
    posted(front, "error")
    failed(front, "error", reason)
    code, word, said = status(front, "/error")
    assert (code, word) == (500, "error")
    assert len(said.encode("latin-1")) <= 1_024
    assert said == message if message else said.startswith("long long")
    answer = front.ask("GET", "/error")
    assert (answer.status, answer.content) == (202, b"The cart is not ready for download.")


def test_directories_of_this_host_are_told_to_nobody(front: Front) -> None:
    posted(front, "where")
    failed(front, "where", f"cannot write {front.settings.carts.volume}/x: Permission denied")
    assert status(front, "/where")[2] == "cannot write (carts)/x: Permission denied"


def test_an_unknown_cart_is_404(front: Front, top: str) -> None:
    assert status(front, f"{top}/unknown") == (404, "error", "No cart with uid unknown found")
    assert told(front.ask("GET", f"{top}/unknown")) == (
        404,
        "The cart does not exist or has already been deleted",
    )
    assert told(front.ask("DELETE", f"{top}/unknown")) == (404, "Not Found")


def test_a_cart_whose_files_are_gone_is_not_found(front: Front) -> None:
    for uid, stored in (("gone", False), ("gone-stored", True)):
        posted(front, uid, bundle=stored)
        cart = filled(front, uid)
        directory = cart_sites.directory_of(front, cart)
        (directory / ("bundle.tar" if stored else "files/1/2/3/foo.txt")).unlink()
        assert told(front.ask("GET", f"/{uid}")) == (404, "Not Found")
        answer = front.api("GET", f"/carts/{uid}/content")
        assert (answer.status, answer.json["error"]["code"]) == (404, "bundle-broken")
        assert str(front.settings.carts.volume) not in answer.json["error"]["message"]


def test_an_evicted_cart_is_404_everywhere(front: Front) -> None:
    posted(front, "evicted")
    filled(front, "evicted")
    posted(front, "hungry")
    gone = newest(front, "evicted").job.id
    hungry = newest(front, "hungry").job.id
    while (each := front.store.carts.evict_one(hungry, unused_since=time.time() + 9)) not in (gone, None):
        pass
    assert each == gone
    assert status(front, "/evicted")[0] == 404
    assert front.ask("GET", "/evicted").status == 404
    assert front.ask("DELETE", "/evicted").status == 404


# -- the bundle -----------------------------------------------------------------------------------


def members(content: bytes) -> dict[str, bytes]:
    """Given a tar, return what is in it."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {}
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            found[info.name] = file.read()
            if "manifest" not in info.name:
                assert info.mtime == TIME
        return found


def test_a_bundle_made_on_the_fly(front: Front, top: str) -> None:
    posted(front, "fly", manifest=False)
    filled(front, "fly")
    answer = front.ask("GET", f"{top}/fly?filename=my_cart.tar")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename=my_cart.tar"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert members(answer.content) == {f"my_cart/{path}": content for path, content in SEED.items()}


def test_a_bundle_that_is_stored(front: Front, top: str) -> None:
    posted(front, "stored", manifest=False, bundle=True)
    filled(front, "stored")
    answer = front.ask("GET", f"{top}/stored?filename=other.tar")
    assert answer.headers["content-disposition"] == 'attachment; filename="other.tar"'
    assert answer.headers["accept-ranges"] == "bytes" and "last-modified" in answer.headers
    assert members(answer.content) == {f"stored/{path}": content for path, content in SEED.items()}


def test_without_a_name_it_is_called_after_the_time(front: Front) -> None:
    posted(front, "dated")
    cart = filled(front, "dated")
    answer = front.ask("GET", "/dated")
    name = time.strftime("data_%Y_%m_%d_%H_%M_%S", time.localtime(cart.job.ended))
    assert answer.headers["content-disposition"] == f"attachment; filename={name}.tar"
    assert all(each.startswith(f"{name}/") for each in members(answer.content))


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("../../etc/passwd", "passwd"), ("a%20b.tar", "a_b.tar"), ("x%0d%0aSet-Cookie:%20a=b", "xSet-Cookie__a=b"),
        ("%22;x=.tar", "__x=.tar"), (".tar", "tar"), ("C:%5Cdir%5Cn.tar", "n.tar"), ("%C3%BC.tar", "_.tar"),
        (".%20...tar", "tar"), (".%20.bashrc", "bashrc"),
        ("plain", "plain"), ("..", None), ("%20", None), ("%2f", None), ("", None), ("%00", None),
    ],
)  # fmt: skip
def test_a_wish_for_a_name_becomes_one_safe_name(front: Front, wish: str, name: str | None) -> None:
    if front.store.carts.newest("named", owner="anonymous") is None:
        posted(front, "named")
        filled(front, "named")
    answer = front.ask("GET", f"/named?filename={wish}")
    found = answer.headers["content-disposition"].removeprefix("attachment; filename=")
    if name is None:
        assert re.fullmatch(r"data_[0-9_]{19}\.tar", found)
    else:
        assert found == name
    (top,) = {each.partition("/")[0] for each in members(answer.content)}
    assert top == found.removesuffix(".tar")


# -- DELETE and again -----------------------------------------------------------------------------


def test_a_deleted_cart_is_gone_with_its_files(front: Front, top: str) -> None:
    posted(front, "deleted")
    cart = filled(front, "deleted")
    directory = cart_sites.directory_of(front, cart)
    assert directory.is_dir()
    answer = front.ask("DELETE", f"{top}/deleted")
    assert (answer.status, answer.json) == (200, {"message": "Cart Deleted Successfully"})
    assert not directory.exists()
    assert front.store.carts.doomed() == []
    assert front.ask("GET", f"{top}/deleted").status == 404
    assert status(front, f"{top}/deleted")[0] == 404
    assert told(front.ask("DELETE", f"{top}/deleted")) == (404, "Not Found")


def test_the_newest_of_a_uid_is_seen_and_all_are_deleted(front: Front) -> None:
    posted(front, "twice")
    first = filled(front, "twice")
    assert posted(front, "twice").status == 201
    assert status(front, "/twice")[:2] == (204, "waiting")
    second = newest(front, "twice")
    assert second.job.id != first.job.id
    assert front.ask("DELETE", "/twice").status == 200
    assert status(front, "/twice")[0] == 404
    job = front.store.jobs.get(second.job.id)
    assert job is not None and job.state.final


def test_a_cart_that_a_worker_has_is_gone_at_once_and_its_files_later(front: Front) -> None:
    posted(front, "running")
    cart = newest(front, "running")
    assert front.store.claims.claim(cart.job.id, "w", 60) is not None
    directory = cart_sites.directory_of(front, cart)
    directory.mkdir(parents=True)
    assert front.ask("DELETE", "/running").status == 200
    assert status(front, "/running")[0] == 404
    job = front.store.jobs.get(cart.job.id)
    assert job is not None and job.cancelling
    assert directory.is_dir()


# -- clients --------------------------------------------------------------------------------------


def test_a_client_of_the_released_service_sees_staging_until_it_is_ready(as_cartd: Front) -> None:
    assert posted(as_cartd, "polled", bundle=True).status == 201
    assert status(as_cartd, "/cart/polled") == (204, "staging", "")
    claim = as_cartd.store.claims.claim(newest(as_cartd, "polled").job.id, "w", 60)
    assert claim is not None
    assert status(as_cartd, "/cart/polled") == (204, "staging", "")
    as_cartd.store.claims.packaging(claim)
    assert status(as_cartd, "/cart/polled") == (204, "staging", "")
    as_cartd.store.claims.put_back(claim, not_before=None, reason="")
    filled(as_cartd, "polled")
    assert status(as_cartd, "/cart/polled") == (204, "ready", "")
    # It knows of no file but its own.
    assert set(members(as_cartd.ask("GET", "/cart/polled").content)) == {f"polled/{path}" for path in SEED}
    posted(as_cartd, "asked", manifest=True)
    assert newest(as_cartd, "asked").form.manifest


def test_the_lines_of_the_documentation_work_as_they_are_written(front: Front, tmp_path: Path) -> None:
    url, uid = f"http://127.0.0.1:{front.port}", "0b9d6d1e-7d4a-4b8e-9a64-0f7e6f1f2d3c"

    def curl(*words: str) -> str:
        done = subprocess.run(
            ["curl", "-sS", *words], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    (tmp_path / "foo.json").write_text(json.dumps(GOOD))
    created = curl("-X", "POST", "--upload-file", "foo.json", f"{url}/{uid}")
    assert json.loads(created) == {"message": "Cart Processing has begun"}
    said = curl("-m", "20", "-I", "-X", "HEAD", f"{url}/{uid}").lower()
    assert "204 " in said and "x-pacifica-status: waiting" in said and "x-pacifica-message:" in said
    filled(front, uid)
    assert "x-pacifica-status: ready" in curl("-I", "-X", "HEAD", f"{url}/{uid}").lower()
    curl("-o", "direct.tar", f"{url}/{uid}?filename=my_cart.tar")
    curl("-O", "-J", f"{url}/{uid}?filename=my_cart.tar")
    assert (tmp_path / "direct.tar").read_bytes() == (tmp_path / "my_cart.tar").read_bytes()
    subprocess.run(["tar", "xf", "my_cart.tar"], cwd=tmp_path, timeout=30, check=True)
    for path, content in SEED.items():
        assert (tmp_path / "my_cart" / path).read_bytes() == content
    subprocess.run(["md5sum", "--quiet", "-c", "manifest-md5.txt"], cwd=tmp_path / "my_cart", timeout=30, check=True)
    assert json.loads(curl("-X", "DELETE", f"{url}/{uid}")) == {"message": "Cart Deleted Successfully"}


# -- who may --------------------------------------------------------------------------------------


def test_scopes_decide_who_may_do_what(front: Front) -> None:
    reader, one, other = front.as_(Scope.READ), front.as_(Scope.SUBMIT, "one"), front.as_(Scope.SUBMIT, "other")
    admin = front.as_(Scope.ADMIN)
    assert told(posted(reader, "whose"))[0] == 403
    assert posted(one, "whose").status == 201
    assert status(reader, "/whose")[0] == 204
    assert reader.ask("GET", "/whose").status == 202
    assert told(reader.ask("DELETE", "/whose"))[0] == 403
    assert told(other.ask("DELETE", "/whose"))[0] == 403
    # Of the same uid the other deletes his own alone.
    assert posted(other, "whose", bundle=True).status == 201
    # And nobody sees another's in the place of his own.
    for who, stored in ((one, False), (other, True), (reader, True)):
        assert who.ask("GET", "/api/v1/carts/whose").json["bundle"] is stored
    assert other.ask("DELETE", "/whose").status == 200
    assert newest(front, "whose").job.owner == "one"
    assert admin.ask("DELETE", "/whose").status == 200
    wrong = replace(front, token="mm_wrong")
    assert wrong.ask("HEAD", "/whose").status == 401


def test_nobody_known_may_do_nothing_but_see_that_it_runs(places: Path) -> None:
    settings = fronts.settings(
        places / "closed", places / "data", dialects=("cart",), carts_at_root=True, anonymous="none"
    )
    with fronts.running(cart_sites.with_carts(settings)) as closed:
        assert closed.ask("GET", "/").status == 200
        for verb in ("POST", "GET", "DELETE", "HEAD"):
            assert closed.ask(verb, "/x", GOOD).status == 401
        for path in ("/x", "/cart/x"):
            assert status(closed, path) == (401, "error", "Unauthorized")
        assert "x-pacifica-status" not in closed.ask("HEAD", "/api").headers


def test_without_an_archive_a_cart_has_to_name_one(places: Path) -> None:
    settings = fronts.settings(places / "bare", places / "data", dialects=("cart",))
    with fronts.running(settings) as bare:
        code, message = told(posted(bare, "x"))
        assert code == 503 and "[carts] archive" in message
        assert posted(bare, "x", archive="shelf").status == 201
