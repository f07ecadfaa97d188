"""What the older services did wrong, each turned into what must not happen here; the rows are those of their review."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import uuid
import xmlrpc.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

import legacy_sites as fronts
from legacy_sites import HttpSource, RunningFront, Site
from mistamover.jobs.model import Scope

FIELDS = {"description": "d", "originator": "o", "group": "g", "machine": "localhost", "path": ""}
SECRET = "moon-and-sixpence"


@pytest.fixture
def place(old_site: Site) -> Site:
    outside = old_site.local.parent / "outside"
    if not outside.exists():
        outside.mkdir()
        (outside / "secret.txt").write_text(SECRET)
        (old_site.local / "way-out").symlink_to(outside)
        (old_site.remote / "way-out").symlink_to(outside)
    return old_site


@pytest.fixture
def front(old_front: RunningFront, place: Site) -> RunningFront:
    return old_front


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFront]:
    """A front as it is without a word in the configuration: no private addresses, nobody without a token."""
    directory = tmp_path_factory.mktemp("strict")
    place = fronts.site(directory / "site")
    keys = {"anonymous": "none", "allow_private_addresses": False}
    with fronts.running(directory / "front", place.endpoints, worker=True, **keys) as running:
        yield running


@pytest.fixture(scope="module")
def source() -> Iterator[HttpSource]:
    with HttpSource() as server:
        server.files["/a.txt"] = b"first"
        server.files["/other/a.txt"] = b"second"
        server.files["/private/a.txt"] = b"for alice"
        for number in range(6):
            server.files[f"/slow/{number}"] = b"x" * 20
        yield server


@pytest.fixture
def name() -> str:
    return f"{uuid.uuid4().hex[:8]}.nc"


def register(front: RunningFront, name: str, *, status: int = 201, **more: object) -> str:
    answer = front.ask("PUT", "/DM/register", {**FIELDS, "filename": name, "size": 1, **more})
    assert answer.status == status, answer.text
    return answer.text


def external(front: RunningFront, name: str, url: str, *, token: str = "", **more: object) -> fronts.Answer:
    asked = {**FIELDS, "filename": name, "url": url, "protocol": "http", **more}
    return front.ask("PUT", "/DM/getexternal", asked, token=token)


def move(front: RunningFront, *parameters: Any) -> dict[str, str]:
    """Given the parameters of an XML-RPC move, return the last that is said of it."""
    with front.proxy() as proxy:
        struct: Any = proxy.move(*parameters)
        if struct["status"] == "REJECTED":
            return struct  # type: ignore[no-any-return]

        def ended() -> Any:
            last: Any = proxy.check(struct["id"])
            return last if last["status"] not in ("PENDING", "IN_PROGRESS") else None

        return fronts.until(ended)  # type: ignore[no-any-return]


def to(path: str, host: str = "localhost") -> dict[str, str]:
    return {"host": host, "path": path}


# ---- security ----


@pytest.mark.parametrize("path", ["../../../../../etc", "/etc", "a/../../outside", "..", "way-out"])
def test_vestec_file_read_outside_the_root(front: RunningFront, path: str) -> None:
    asked = {**FIELDS, "filename": "passwd" if path != "way-out" else "secret.txt", "size": 1, "path": path}
    answer = front.ask("PUT", "/DM/register", asked)
    if path == "way-out":  # only the disk knows that this is a link
        answer = front.ask("GET", f"/DM/get/{answer.text}")
        assert answer.status >= 400
        assert SECRET not in answer.text
    else:
        assert answer.status == 400


@pytest.mark.parametrize("dest", ["../escaped.txt", "/tmp/escaped.txt", "a/../../escaped.txt", "way-out/escaped.txt"])
@pytest.mark.parametrize("machine", ["localhost", "hpc1"])
def test_vestec_file_write_outside_the_root(
    front: RunningFront, place: Site, name: str, dest: str, machine: str
) -> None:
    (place.local / name).write_bytes(b"x")
    identity = register(front, name)
    answer = front.ask("POST", f"/DM/copy/{identity}", {"machine": machine, "dest": dest})
    assert answer.status in (400, 500), answer.text
    assert not list(place.local.parent.rglob("*escaped.txt*"))
    assert not Path("/tmp/escaped.txt").exists()


def test_vestec_option_injection_into_curl(front: RunningFront, place: Site, source: HttpSource, name: str) -> None:
    for url in (f"{source.url}/a.txt -o {place.local}/other", f"-o {place.local}/other {source.url}/a.txt"):
        assert external(front, name, url).status in (400, 501)
    assert not (place.local / "other").exists()


@pytest.mark.parametrize("protocol", ["http", "https", "file"])
def test_vestec_file_url_accepted_when_protocol_says_http(
    front: RunningFront, place: Site, name: str, protocol: str
) -> None:
    url = f"file://{place.local.parent}/outside/secret.txt"
    answer = external(front, name, url, protocol=protocol)
    assert (answer.status, answer.text) == (501, "'file' protocol not supported (yet?)")
    assert not (place.local / name).exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433"])
def test_vestec_and_bccvl_ssrf(strict: RunningFront, source: HttpSource, name: str, host: str) -> None:
    token = strict.token(f"t-{name}", Scope.SUBMIT)
    before = len(source.seen)
    answer = external(strict, name, f"http://{host}:{source.port}/a.txt", token=token)
    assert answer.status in (400, 500), answer.text
    assert len(source.seen) == before


@pytest.mark.parametrize(
    "dest", ["a;touch pwned", "$(touch pwned)", "`touch pwned`", "'; touch pwned; '", "-rf", "a b\nc"]
)
def test_vestec_shell_injection_on_remote_machines(front: RunningFront, place: Site, name: str, dest: str) -> None:
    (place.local / name).write_bytes(b"as it is")
    identity = register(front, name)
    answer = front.ask("POST", f"/DM/copy/{identity}", {"machine": "hpc1", "dest": f"odd/{dest}"})
    assert answer.status == 201, answer.text
    assert (place.remote / "odd" / dest).read_bytes() == b"as it is"
    assert front.ask("GET", f"/DM/get/{answer.text}").body == b"as it is"
    removed = front.ask("DELETE", f"/DM/remove/{answer.text}")
    assert removed.status == 200
    assert not (place.remote / "odd" / dest).exists()
    assert not list(place.remote.rglob("pwned"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/DM/info"),
        ("GET", "/DM/info/x"),
        ("GET", "/DM/search"),
        ("GET", "/DM/get/x"),
        ("PUT", "/DM/register"),
        ("PUT", "/DM/put"),
        ("PUT", "/DM/getexternal"),
        ("POST", "/DM/copy/x"),
        ("POST", "/DM/move/x"),
        ("POST", "/DM/archive/x"),
        ("POST", "/DM/activate/x"),
        ("POST", "/DM/predict"),
        ("DELETE", "/DM/delete/x"),
        ("DELETE", "/DM/remove/x"),
        ("POST", "/DM/async/copy/x"),
        ("POST", "/DM/async/move/x"),
        ("PUT", "/DM/async/getexternal"),
        ("GET", "/DM/async/status/x"),
        ("GET", "/MSM/machinestatuses"),
        ("POST", "/MSM/add"),
        ("DELETE", "/MSM/machine/x"),
        ("POST", "/MSM/enable/x"),
        ("POST", "/data_mover"),
        ("POST", "/RPC2"),
    ],
)
def test_vestec_no_authentication(strict: RunningFront, method: str, path: str) -> None:
    answer = strict.ask(method, path)
    assert answer.status == 401
    assert "bearer" in answer.headers["www-authenticate"].lower()
    assert strict.ask(method, path, token="mm_wrong").status == 401


def test_bccvl_authentication_parsed_but_never_effective(strict: RunningFront) -> None:
    reader = strict.token("reader", Scope.READ)
    headers = [("Authorization", f"Bearer {reader}")]
    with xmlrpc.client.ServerProxy(f"{strict.url}/data_mover", headers=headers) as proxy:
        assert proxy.check("0" * 32) == {"status": "REJECTED", "reason": "Job does not exist"}
        for call in (lambda: proxy.move("http://h/x", "scp://h/x"), lambda: proxy.cancel("0" * 32)):
            with pytest.raises(xmlrpc.client.Fault, match="scope submit"):
                call()


def test_bccvl_nobody_cancels_what_another_one_asked_for(strict: RunningFront) -> None:
    urls = []
    for name in ("first", "second"):
        # As in the address of an old client: user and password.
        urls.append(f"http://{name}:{strict.token(name, Scope.SUBMIT)}@127.0.0.1:{strict.port}/data_mover")
    with xmlrpc.client.ServerProxy(urls[0]) as first, xmlrpc.client.ServerProxy(urls[1]) as second:
        job: Any = first.move({"type": "url", "url": "http://example.invalid/x"}, to("x"))
        assert job["status"] == "PENDING", job
        with pytest.raises(xmlrpc.client.Fault, match="only who submitted a job may cancel it"):
            second.cancel(job["id"])
        cancelled: Any = first.cancel(job["id"])
        assert cancelled["id"] == job["id"]


def test_bccvl_private_methods_callable_by_name(front: RunningFront) -> None:
    for method in ("_validate_destination", "__class__", "move.__call__", "_move", "call", "do", "routes"):
        answer = front.ask("POST", "/data_mover", xmlrpc.client.dumps((), method).encode())
        with pytest.raises(xmlrpc.client.Fault) as caught:
            xmlrpc.client.loads(answer.body)
        assert caught.value.faultCode == -32601


def test_bccvl_unknown_host_keys_accepted_silently(front: RunningFront, place: Site, source: HttpSource) -> None:
    with front.proxy() as proxy:
        struct: Any = proxy.move({"type": "url", "url": f"{source.url}/a.txt"}, to("x", "stranger"))
        identity = struct["id"]

        def said() -> str:
            items = front.store.jobs.items(identity)
            return " ".join(item.reason for item in items) + str(front.store.claims.circuits().get("stranger"))

        fronts.until(lambda: "ost key" in said())
        proxy.cancel(identity)
    assert not (place.remote / "strange").exists()


def test_bccvl_passwords_in_urls_kept_in_jobs_and_logs(front: RunningFront, source: HttpSource, name: str) -> None:
    url = f"http://alice:wonder%20land@127.0.0.1:{source.port}/private/a.txt"
    struct = move(front, {"type": "url", "url": url}, to(name))
    assert struct["status"] == "COMPLETED", struct
    bad = move(front, {"type": "url", "url": url.replace("wonder", SECRET)}, to(f"2{name}"))
    assert bad["status"] == "FAILED"
    logs = front.file.parent / "log"
    texts = [path.read_text() for path in logs.rglob("*") if path.is_file()]
    assert texts
    shown = [front.ask("GET", f"/api/v1/jobs/{identity}").text for identity in (struct["id"], bad["id"])]
    for text in (*texts, *shown, json.dumps(bad)):
        assert "wonder" not in text
        assert SECRET not in text


def test_bccvl_tls_verification_off(front: RunningFront, tmp_path: Path, name: str) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=fronts.DEADLINE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the handshake that the client breaks off

    with Server(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        answer = external(front, name, f"https://127.0.0.1:{server.server_address[1]}/a.txt", protocol="https")
        server.shutdown()
        thread.join(fronts.DEADLINE)
    assert answer.status == 500
    assert "certificate" in answer.text.lower()


def test_bccvl_credential_forwarding(front: RunningFront, source: HttpSource, name: str) -> None:
    with HttpSource() as other:
        other.files["/a.txt"] = b"elsewhere"
        source.redirects["/away"] = f"{other.url}/a.txt"
        options = json.dumps({"user": "alice", "password": SECRET, "headers": {"X-Ticket": SECRET}})
        answer = external(front, name, f"{source.url}/away", options=options)
        assert answer.status == 201, answer.text
        assert SECRET not in json.dumps([headers for _, headers in other.seen])
        assert "Authorization" not in other.seen[-1][1]


# ---- reliability ----


def test_bccvl_and_vestec_jobs_lost_on_restart(tmp_path: Path, source: HttpSource) -> None:
    place = fronts.site(tmp_path / "site")
    with fronts.running(tmp_path / "front", place.endpoints, worker=True) as front:
        with front.proxy() as proxy:
            slow: Any = proxy.move({"type": "url", "url": f"{source.url}/slow/0"}, to("slow"))
            bad: Any = proxy.move({"type": "url", "url": f"{source.url}/no"}, to("no"))
            fronts.until(lambda: proxy.check(slow["id"])["status"] == "IN_PROGRESS")  # type: ignore[index]
        for process in list(front.processes):
            front.kill(process)
        for command in ("front", "worker"):
            front.start(command)
        with front.proxy("/RPC2") as proxy:
            fronts.until(lambda: proxy.check(slow["id"])["status"] == "COMPLETED")  # type: ignore[index]
            for _ in range(3):  # not once only: an answer may get lost
                assert proxy.check(slow["id"]) == {"status": "COMPLETED", "id": slow["id"]}
            fronts.until(lambda: proxy.check(bad["id"])["status"] == "FAILED")  # type: ignore[index]
        # FAILED jobs can be removed.
        assert front.ask("DELETE", f"/api/v1/jobs/{bad['id']}").status == 204
        assert (place.local / "slow").read_bytes() == b"x" * 20
        assert [path.name for path in place.local.iterdir()] == ["slow"]


def test_bccvl_concurrency_limit_ineffective(front: RunningFront, source: HttpSource) -> None:
    with front.proxy() as proxy:
        jobs: list[Any] = [
            proxy.move({"type": "url", "url": f"{source.url}/slow/{number}"}, to(f"limited/{number}"))
            for number in range(6)
        ]
        for job in jobs:
            fronts.until(lambda job=job: proxy.check(job["id"])["status"] == "COMPLETED")  # type: ignore[index,misc]
    assert source.at_once == fronts.THREADS


def test_bccvl_control_characters_in_reasons_break_the_xml_reply(
    front: RunningFront, source: HttpSource, name: str
) -> None:
    struct = move(front, {"type": "url", "url": f"{source.url}/rude"}, to(name))
    assert struct["status"] == "FAILED"
    assert "404" in struct["reason"]
    assert struct["reason"].isprintable()


def test_bccvl_several_files_overwrite_each_other(front: RunningFront, source: HttpSource, name: str) -> None:
    urls = [f"{source.url}/a.txt", f"{source.url}/other/a.txt"]
    struct = move(front, {"type": "mixed", "sources": [{"type": "url", "url": url} for url in urls]}, to(name))
    # The names are known only when the servers are asked: nothing of the one may end under the name of the other.
    assert struct["status"] in ("REJECTED", "FAILED"), struct
    assert "a.txt" in struct["reason"]


def test_bccvl_partial_deliveries_and_non_atomic_writes(
    front: RunningFront, place: Site, source: HttpSource, name: str
) -> None:
    struct = move(front, {"type": "url", "url": f"{source.url}/short"}, to(f"part/{name}", "hpc1"))
    assert struct["status"] == "FAILED"
    assert not (place.remote / "part").exists() or not list((place.remote / "part").iterdir())


def test_bccvl_errors_become_http_500_instead_of_faults(front: RunningFront) -> None:
    for body in (b"", b"{}", b"<x/>", xmlrpc.client.dumps((), "nothing").encode()):
        answer = front.ask("POST", "/data_mover", body)
        assert answer.status == 200
        with pytest.raises(xmlrpc.client.Fault):
            xmlrpc.client.loads(answer.body)


def test_vestec_existence_check_races(front: RunningFront, place: Site, name: str) -> None:
    def put(number: int) -> tuple[int, str]:
        asked = {**FIELDS, "filename": name, "payload": f"content {number}"}
        answer = front.ask("PUT", "/DM/put", asked)
        return answer.status, answer.text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, range(8)))
    assert sorted(status for status, _ in answers) == [201] + [406] * 7
    winner = next(number for number, (status, _) in enumerate(answers) if status == 201)
    assert (place.local / name).read_text() == f"content {winner}"


def test_vestec_whole_files_in_memory(front: RunningFront, place: Site, name: str) -> None:
    process = psutil.Process(front.processes[0].pid)
    _there_and_back(front, f"small-{name}", 1 << 20)
    before = _peak(process)
    _there_and_back(front, name, 48 << 20)
    assert _peak(process) - before < 18 << 20


def _there_and_back(front: RunningFront, name: str, size: int) -> None:
    query = fronts.urlencode({**FIELDS, "filename": name})
    headers = {"Content-Type": "application/octet-stream"}
    answer = front.ask("PUT", f"/DM/put?{query}", b"\xff" * size, headers=headers)
    assert answer.status == 201, answer.text
    assert len(front.ask("GET", f"/DM/get/{answer.text}").body) == size
    form = f"filename=form-{name}&payload=".encode() + b"%ff" * (size // 4)
    answer = front.ask("PUT", f"/DM/put?{query}", form)
    assert answer.status == 201, answer.text
    assert len(front.ask("GET", f"/DM/get/{answer.text}").body) == size // 4


def _peak(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def test_vestec_list_call_fails_on_one_bad_record(strict: RunningFront, name: str) -> None:
    token = strict.token(f"boss-{name}", Scope.ADMIN)
    machine = {
        "machine_name": "gone", "host_name": "gone.example.org", "scheduler": "none", "connection_type": "openssh",
        "num_nodes": 1, "cores_per_node": 1, "base_work_dir": "/work",
    }  # fmt: skip
    assert strict.ask("POST", "/MSM/add", machine, token=token).status == 201
    assert strict.ask("POST", "/MSM/enable/gone", token=token).status == 200
    asked = {**FIELDS, "filename": name, "size": 1, "machine": "gone"}
    identity = strict.ask("PUT", "/DM/register", asked, token=token).text
    assert strict.ask("DELETE", "/MSM/machine/gone", token=token).status == 200
    records = strict.ask("GET", "/DM/info", token=token).json
    assert identity in [record["id"] for record in records]
    assert strict.ask("GET", f"/DM/info/{identity}", token=token).json["machine"] == "gone"


def test_vestec_prediction_fails_on_one_failed_transfer(front: RunningFront, place: Site, name: str) -> None:
    (place.local / name).write_bytes(b"x" * 100_000)
    good, bad = register(front, name), register(front, f"not-{name}")
    assert front.ask("POST", f"/DM/copy/{good}", {"machine": "tape", "dest": name}).status == 201
    assert front.ask("POST", f"/DM/copy/{bad}", {"machine": "tape", "dest": f"not-{name}"}).status == 500
    answer = front.ask("POST", "/DM/predict", {"uuid": good, "dest_machine": "tape"})
    assert answer.status == 201, answer.text


def test_vestec_failed_put_leaves_a_registered_object_without_file(front: RunningFront, place: Site, name: str) -> None:
    (place.local / name).mkdir()  # what is put has no place
    asked = {**FIELDS, "filename": name, "path": f"{name}/x/..", "payload": "x"}
    assert front.ask("PUT", "/DM/put", asked).status == 400
    (place.local / f"file-{name}").write_bytes(b"")
    asked = {**FIELDS, "filename": name, "path": f"file-{name}", "payload": "x"}
    assert front.ask("PUT", "/DM/put", asked).status == 500
    query = fronts.urlencode({"machine": "localhost", "filename": name})
    assert front.ask("GET", f"/DM/search?{query}").status == 404


def test_vestec_delete_twice_turns_deleted_into_unknown(front: RunningFront, place: Site, name: str) -> None:
    (place.local / name).write_bytes(b"x")
    identity = register(front, name)
    for _ in range(3):
        assert front.ask("DELETE", f"/DM/remove/{identity}").text == f"{name} deleted"
    assert front.ask("GET", f"/DM/info/{identity}").json["status"] == "DELETED"


def test_vestec_tracebacks_and_places_of_the_server_are_not_told(front: RunningFront, place: Site, name: str) -> None:
    identity = register(front, name, path="nothing")
    answer = front.ask("POST", f"/DM/copy/{identity}", {"machine": "localhost", "dest": f"x/{name}"})
    assert answer.status == 500
    for word in ("Traceback", str(place.local), str(front.settings.directory)):
        assert word not in answer.text
