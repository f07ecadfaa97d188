"""Carts over the REST API."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import cart_sites
import fronts
from cart_sites import SEED, asked, failed, filled, newest
from fronts import Front
from mistamover.jobs.model import JobState, Scope


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("carts")
    (directory / "data").mkdir()
    with fronts.running(cart_sites.with_carts(fronts.settings(directory / "jobs", directory / "data"))) as running:
        yield running


def made(front: Front, uid: str, **more: object) -> None:
    """Ask for a cart."""
    answer = front.api("POST", "/carts", {"uid": uid, **asked(SEED), **more})
    assert answer.status == 201, answer.content


def test_a_cart_from_its_creation_to_its_end(front: Front) -> None:
    body = {**asked(SEED), "format": "zip", "bundle": True}
    answer = front.api("POST", "/carts", body, headers={"Idempotency-Key": "one"})
    assert answer.status == 201
    cart = answer.json
    uid = cart["uid"]
    assert answer.headers["location"] == f"/api/v1/carts/{uid}"
    assert (cart["state"], cart["format"], cart["bundle"], cart["hashtype"]) == ("waiting", "zip", True, "md5")
    assert cart["progress"] == {"files": 3, "files_done": 0, "bytes": 0, "bytes_done": 0, "bytes_per_second": None}
    again = front.api("POST", "/carts", body, headers={"Idempotency-Key": "one"})
    assert (again.status, again.json["uid"], again.json["job"]) == (200, uid, cart["job"])
    other = front.api("POST", "/carts", {**body, "uid": "x"}, headers={"Idempotency-Key": "one"})
    assert (other.status, other.code) == (422, "key-reused")
    early = front.api("GET", f"/carts/{uid}/content")
    assert (early.status, early.code) == (409, "cart-state")
    filled(front, uid)
    cart = front.api("GET", f"/carts/{uid}").json
    assert (cart["state"], cart["message"], cart["progress"]["files_done"]) == ("ready", "", 3)
    assert cart["progress"]["bytes_done"] == sum(map(len, SEED.values()))
    assert cart["progress"]["bytes_per_second"] > 0 and cart["reserved"] > 0
    whole = front.api("GET", f"/carts/{uid}/content?filename=x.zip")
    assert whole.status == 200 and whole.content[:2] == b"PK"
    head = front.api("HEAD", f"/carts/{uid}/content")
    assert (head.status, head.headers["content-length"]) == (200, str(len(whole.content)))
    part = front.api("GET", f"/carts/{uid}/content", headers={"Range": "bytes=2-5"})
    assert (part.status, part.content) == (206, whole.content[2:6])
    assert front.api("DELETE", f"/carts/{uid}").status == 204
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", ""), ("POST", "/retry")):
        gone = front.api(method, f"/carts/{uid}{path}")
        assert (gone.status, gone.code) == (404, "unknown-cart")


def test_carts_are_listed_in_pages_and_by_what_they_are(front: Front) -> None:
    one = front.as_(Scope.SUBMIT, "lister")
    for uid in ("l1", "l2", "l3"):
        made(one, uid)
    filled(front, "l1")
    failed(front, "l2", "No Space Available")
    first = front.api("GET", "/carts?owner=lister&limit=2").json
    assert [cart["uid"] for cart in first["carts"]] == ["l3", "l2"]
    last = front.api("GET", f"/carts?owner=lister&limit=2&cursor={first['next']}").json
    assert ([cart["uid"] for cart in last["carts"]], last["next"]) == (["l1"], None)
    for state, uids in (("waiting", ["l3"]), ("error", ["l2"]), ("ready", ["l1"]), ("staging", []), ("bundling", [])):
        found = front.api("GET", f"/carts?owner=lister&state={state}").json["carts"]
        assert [cart["uid"] for cart in found] == uids
    assert len(front.api("GET", "/carts?uid=l2").json["carts"]) == 1
    assert front.api("GET", "/carts?stat=ready").status == 422
    claim = front.store.claims.claim(newest(front, "l3").job.id, "w", 60)
    assert claim is not None
    front.store.claims.put_back(claim, not_before=None, reason="the archive is asked")
    # It was begun with, and so does not wait any more.
    (cart,) = front.api("GET", "/carts?owner=lister&state=staging").json["carts"]
    assert (cart["uid"], cart["state"]) == ("l3", "staging")


def test_only_what_failed_is_tried_again(front: Front) -> None:
    made(front, "again")
    cart = newest(front, "again")
    claim = front.store.claims.claim(cart.job.id, "hand", 60)
    assert claim is not None
    item = claim.items[0]
    front.store.claims.item_done(claim, 0, landed=item.target, algorithm="md5", digest="0" * 32, size=5)
    front.store.claims.finish(claim, JobState.FAILED, reason="Failed to pull file(x)")
    shown = front.api("GET", "/carts/again").json
    assert (shown["state"], shown["message"]) == ("error", "Failed to pull file(x)")
    answer = front.api("POST", "/carts/again/retry")
    assert (answer.status, answer.json["progress"]["files_done"]) == (200, 1)
    assert [each.state.value for each in front.store.jobs.items(cart.job.id)] == ["done", "queued", "queued"]
    refused = front.api("POST", "/carts/again/retry")
    assert (refused.status, refused.code) == (409, "retry-refused")


def test_an_evicted_cart_is_not_tried_again(front: Front) -> None:
    made(front, "was-evicted")
    cart = filled(front, "was-evicted")
    with front.store.database.write() as connection:
        connection.exec_driver_sql(f"update carts set state = 'evicted' where job = '{cart.job.id}'")
    assert front.api("GET", "/carts/was-evicted").status == 404
    refused = front.api("POST", "/carts/was-evicted/retry")
    assert (refused.status, refused.code) == (409, "retry-refused")
    assert "ask for it anew" in refused.json["error"]["message"]


def test_carts_belong_to_who_made_them(front: Front) -> None:
    one, other, admin = (
        front.as_(Scope.SUBMIT, "o1"),
        front.as_(Scope.SUBMIT, "o2"),
        front.as_(Scope.ADMIN),
    )
    made(one, "mine")
    failed(front, "mine", "x")
    assert front.as_(Scope.READ).api("GET", "/carts/mine").json["owner"] == "o1"
    assert front.as_(Scope.READ, "r2").api("DELETE", "/carts/mine").status == 403
    for method, path in (("DELETE", "/carts/mine"), ("POST", "/carts/mine/retry")):
        assert other.api(method, path).code == "forbidden"
    old = time.time() - 1_000
    with front.store.database.write() as connection:
        connection.exec_driver_sql(f"update carts set last_used = {old} where uid = 'mine'")
    assert other.api("DELETE", "/carts?unused=900").json == {"deleted": 0}
    assert admin.api("DELETE", "/carts?unused=1100").json == {"deleted": 0}
    assert admin.api("DELETE", "/carts?unused=900").json == {"deleted": 1}
    assert front.api("GET", "/carts/mine").status == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"fileids": []}, 422), ({"unknown": 1}, 422), ({"uid": ".x"}, 422), ({"archive": "nowhere"}, 404),
        ({"format": "rar"}, 422), ({"fileids": [{"id": "a", "path": "../b"}]}, 422),
        ({"fileids": [{"id": 10**30, "path": "b"}]}, 422), ({"fileids": [{"id": True, "path": "b"}]}, 422),
        ({"layout": "bagit", "manifest": False}, 201),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_checked(front: Front, change: dict[str, object], status: int) -> None:
    answer = front.api("POST", "/carts", {**asked(SEED), **change})
    assert answer.status == status, answer.content


def test_the_job_of_a_cart_is_seen_and_left_to_the_cart(front: Front) -> None:
    made(front, "seen")
    cart = filled(front, "seen")
    job = front.api("GET", f"/jobs/{cart.job.id}").json
    assert (job["op"], job["label"], job["state"], len(job["items"])) == ("bundle", "seen", "done", 3)
    assert [each["id"] for each in front.api("GET", "/jobs?op=bundle&label=seen").json["jobs"]] == [cart.job.id]
    for method, path in (("GET", "/content"), ("POST", "/retry"), ("DELETE", "")):
        refused = front.api(method, f"/jobs/{cart.job.id}{path}")
        assert (refused.status, refused.code) == (409, "is-cart")
        assert "/api/v1/carts/seen" in refused.json["error"]["message"]
    made(front, "cancelled")
    running = newest(front, "cancelled").job.id
    assert front.api("DELETE", f"/jobs/{running}").status == 200
    assert front.api("GET", "/carts/cancelled").json["state"] == "error"
    body = {"op": "bundle", "sources": [{"endpoint": "here", "path": "a"}], "destination": {"url": "file:///x"}}
    refused = front.api("POST", "/jobs", body)
    assert refused.status == 422 and "/api/v1/carts" in refused.json["error"]["message"]
