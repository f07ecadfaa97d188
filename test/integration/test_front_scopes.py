"""Every route of every dialect, as the application has them: none lets in whom it should not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Mount, Route

import fronts
from fronts import Front
from mistamover.front.app import create
from mistamover.front.auth import OPEN
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.model import Scope
from mistamover.jobs.transfer.places import Places

DIALECTS = ("rest", "xmlrpc", "dm", "msm")
SAFE = ("GET", "HEAD")

#: What is asked for with another verb, and changes nothing; of XML-RPC each method has a scope of its own.
READING = {"/DM/predict", "/MSM/matchmachine"}
RPC = {"/data_mover", "/RPC2"}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    settings = fronts.settings(
        tmp_path_factory.mktemp("jobs"), tmp_path_factory.mktemp("data"), anonymous="none", dialects=DIALECTS
    )
    with fronts.running(settings) as running:
        yield running


@pytest.fixture(scope="module")
def routes(front: Front, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Every verb and path, as the routers hold them."""
    endpoints = Endpoints(front.settings, front.store.endpoints)
    places = Places(endpoints, tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("links"))
    found = list(_routes(create(front.settings, front.store, front.desk, places).routes, ""))
    places.close()
    return found


def _routes(routes: object, top: str) -> Iterator[tuple[str, str]]:
    for route in routes:  # type: ignore[attr-defined]
        if isinstance(route, Mount):
            yield from _routes(route.routes, top + route.path)
        elif isinstance(route, Route):
            yield from ((method, top + route.path) for method in sorted(route.methods or ()))


def needed(method: str, path: str) -> Scope:
    """Given a call, return the scope that it is to need."""
    plain = path.rstrip("/") or "/"
    if plain in OPEN or plain.startswith("/api/v1/docs"):
        return Scope.NONE
    if method in SAFE or plain in READING or plain in RPC:
        return Scope.READ
    if plain.startswith(("/MSM/", "/api/v1/endpoints")) and not plain.endswith("/content"):
        return Scope.ADMIN
    return Scope.SUBMIT


def test_no_route_of_any_dialect_does_more_than_the_scope_of_the_token(
    front: Front, routes: list[tuple[str, str]]
) -> None:
    assert len(routes) > 80 and {path.split("/")[1] for _, path in routes} >= {"api", "DM", "MSM", "RPC2", "data_mover"}
    clients = {Scope.NONE: front} | {scope: front.as_(scope) for scope in (Scope.READ, Scope.SUBMIT, Scope.ADMIN)}
    wrong = []
    for method, path in routes:
        where = re.sub(r"\{[^}]*\}", "0" * 32, path)
        least = needed(method, path)
        for scope, client in clients.items():
            status = client.ask(method, where, content=b"").status
            let_in = status not in (401, 403)
            if let_in != scope.includes(least):
                wrong.append((method, path, scope.value, status))
    assert wrong == []


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/data_mover", "/RPC2", "/DM/register", "/DM/put", "/MSM/add"])
def test_no_page_of_another_site_uses_any_dialect(tmp_path: Path, path: str) -> None:
    (tmp_path / "data").mkdir()
    settings = fronts.settings(tmp_path / "jobs", tmp_path / "data", anonymous="admin", dialects=DIALECTS)
    with fronts.running(settings) as front:
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": f"http://localhost:{front.port}.evil.example", "Host": f"localhost:{front.port}"},
        ):
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
                assert front.ask("POST", path, content=b"x=1", headers={"Content-Type": kind, **headers}).status == 403
        for host in ("evil.example", f"evil.example:{front.port}", "127.0.0.1.evil.example", "127.0.0.1@evil", ""):
            assert front.ask("POST", path, content=b"x=1", headers={"Host": host}).status == 421
        for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto"):
            for value in ("127.0.0.1", "", "for=127.0.0.1"):
                assert front.ask("POST", path, content=b"x=1", headers={header: value}).status == 401, header
