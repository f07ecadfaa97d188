"""The data manager's dialect on the wire, row by row: texts and statuses as its clients compare them."""

from __future__ import annotations

import email.utils
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import legacy_sites as fronts
from legacy_sites import Answer, HttpSource, RunningFront, Site
from mistamover.jobs.model import Scope

#: What the client library calls "the request must contain", for register.
FIELDS = {
    "filename": "data.nc",
    "path": "forecast/run1",
    "machine": "localhost",
    "size": "12",
    "description": "wind over the coast",
    "originator": "weather simulation",
    "group": "fire",
}
SEED_KEYS = {
    "id", "machine", "filename", "path", "description", "size", "metadata", "date_registered", "date_modified",
    "status",
    "originator", "group",
}  # fmt: skip
MORE_KEYS = {"type", "storage_technology", "modifylock"}


@pytest.fixture
def place(old_site: Site) -> Site:
    return old_site


@pytest.fixture
def front(old_front: RunningFront) -> RunningFront:
    """A front with a worker, for all tests here: each has file names of its own."""
    return old_front


@pytest.fixture(scope="module")
def source() -> Iterator[HttpSource]:
    with HttpSource() as server:
        server.files["/data.nc"] = b"over http \x00\xff"
        server.files["/private/data.nc"] = b"for alice"
        server.files["/slow/data.nc"] = b"x" * 2000
        yield server


@pytest.fixture
def name() -> str:
    """A file name that no other test has."""
    return f"{uuid.uuid4().hex[:8]}.nc"


def fields(name: str, **more: object) -> dict[str, object]:
    return {**FIELDS, "filename": name, **more}


def registered(front: RunningFront, place: Site, name: str, content: bytes = b"twelve bytes", path: str = "") -> str:
    """Given a name, make a file of that name here, and return the id that it is registered with."""
    (place.local / path).mkdir(parents=True, exist_ok=True)
    (place.local / path / name).write_bytes(content)
    answer = front.ask("PUT", "/DM/register", fields(name, path=path, size=len(content)))
    assert answer.status == 201, answer.text
    return answer.text


def told(answer: Answer, status: int, text: str) -> None:
    assert (answer.status, answer.text) == (status, text)


def new_id(answer: Answer, status: int = 201) -> str:
    assert answer.status == status, answer.text
    return str(uuid.UUID(answer.text))


def task(front: RunningFront, identity: str) -> dict[str, str]:
    """Given the id of a task, return what is said of it when it has ended."""

    def ended() -> dict[str, str] | None:
        answer = front.ask("GET", f"/DM/async/status/{identity}")
        assert answer.status == 200, answer.text
        status: dict[str, str] = answer.json
        assert status["status"] in ("QUEUED", "RUNNING", "COMPLETE", "ERROR")
        assert (status["result"] == "") == (status["status"] in ("QUEUED", "RUNNING"))
        return None if status["status"] in ("QUEUED", "RUNNING") else status

    found: dict[str, str] = fronts.until(ended)
    return found


# ---- health, register, info, search ----


@pytest.mark.parametrize("slash", ["", "/"])
def test_health(front: RunningFront, slash: str) -> None:
    answer = front.ask("GET", f"/DM/health{slash}")
    assert (answer.status, answer.json) == (200, {"status": 200})


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("encoding", ["form", "json", "query"])
def test_register_and_info(front: RunningFront, name: str, slash: str, encoding: str) -> None:
    before = time.time()
    asked = fields(name, storage_technology="FILESYSTEM", type="netcdf", unknown="is not looked at")
    if encoding == "form":
        answer = front.ask("PUT", f"/DM/register{slash}", asked)
    elif encoding == "json":
        body = json.dumps({**asked, "size": 12}).encode()
        answer = front.ask("PUT", f"/DM/register{slash}", body, headers={"Content-Type": "application/json"})
    else:
        answer = front.ask("PUT", f"/DM/register{slash}?" + fronts.urlencode(asked))
    identity = new_id(answer)
    record = front.ask("GET", f"/DM/info/{identity}{slash}").json
    assert set(record) == SEED_KEYS | MORE_KEYS
    for key, value in fields(name).items():
        assert record[key] == (12 if key == "size" else value), key
    assert (record["id"], record["type"], record["status"]) == (identity, "netcdf", "ACTIVE")
    assert (record["metadata"], record["date_modified"], record["modifylock"]) == ("", None, False)
    date = email.utils.parsedate_to_datetime(record["date_registered"])
    assert record["date_registered"].endswith(" GMT")
    assert int(before) <= date.timestamp() <= time.time() + 1


def test_info_lists_all(front: RunningFront, name: str) -> None:
    first = new_id(front.ask("PUT", "/DM/register", fields(name)))
    for path in ("/DM/info", "/DM/info/"):
        answer = front.ask("GET", path)
        assert answer.status == 200
        assert first in [record["id"] for record in answer.json]


@pytest.mark.parametrize("lacking", sorted(FIELDS))
def test_register_needs_its_fields(front: RunningFront, name: str, lacking: str) -> None:
    asked = fields(name)
    del asked[lacking]
    answer = front.ask("PUT", "/DM/register", asked)
    if lacking == "size":
        told(answer, 400, "No size provided")
    else:
        assert answer.status == 400
        assert lacking in answer.text


@pytest.mark.parametrize("size", ["", "x", "-1", "1.5", "1e3", "٣", "9" * 40])
def test_a_size_is_a_number(front: RunningFront, name: str, size: str) -> None:
    assert front.ask("PUT", "/DM/register", fields(name, size=size)).status == 400


def test_a_place_is_registered_once(front: RunningFront, name: str) -> None:
    new_id(front.ask("PUT", "/DM/register", fields(name)))
    told(front.ask("PUT", "/DM/register", fields(name)), 406, "File already exists")
    told(front.ask("PUT", "/DM/register", fields(name, path="forecast//run1/../run1")), 400, _any)
    told(front.ask("PUT", "/DM/register", fields(name, path="./forecast/run1/")), 406, "File already exists")


@pytest.mark.parametrize("path", ["", ".", "./", "/", "//", "{base}", "{base}/"])
def test_the_top_of_a_machine_can_be_written_in_many_ways(
    front: RunningFront, place: Site, name: str, path: str
) -> None:
    path = path.format(base=place.local)
    (place.local / name).write_bytes(b"twelve bytes")
    identity = new_id(front.ask("PUT", "/DM/register", fields(name, path=path)))
    assert front.ask("GET", f"/DM/get/{identity}").body == b"twelve bytes"
    token = front.token(f"boss-{name}", Scope.ADMIN)
    assert front.ask("GET", f"/DM/info/{identity}", token=token).json["path"] == path
    assert str(place.local) not in front.ask("GET", f"/DM/info/{identity}").text
    query = fronts.urlencode({"filename": name, "machine": "localhost", "path": "/"})
    assert front.ask("GET", f"/DM/search?{query}").json["id"] == identity
    told(front.ask("PUT", "/DM/register", fields(name, path="")), 406, "File already exists")


@pytest.mark.parametrize("dest", ["", "/", ".", "{base}", "sub/", "{base}/sub/"])
def test_a_copy_to_a_directory_keeps_its_name(front: RunningFront, place: Site, name: str, dest: str) -> None:
    identity = registered(front, place, name, path="from")
    asked = {"machine": "hpc1", "dest": dest.format(base=place.remote)}
    answer = front.ask("POST", f"/DM/copy/{identity}", asked)
    if not dest:  # a variable of a script that was not set
        assert (answer.status, "dest is empty" in answer.text) == (400, True)
        return
    new_id(answer)
    assert (place.remote / ("sub" if "sub" in dest else "") / name).read_bytes() == b"twelve bytes"


def test_of_a_field_that_comes_twice_the_first_one_counts(front: RunningFront, name: str) -> None:
    body = fronts.urlencode([*fields(name).items(), ("filename", "second.nc"), ("description", "")]).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    identity = new_id(front.ask("PUT", "/DM/register?filename=query.nc&group=storm", body, headers=form))
    record = front.ask("GET", f"/DM/info/{identity}").json
    assert (record["filename"], record["description"], record["group"]) == (name, FIELDS["description"], "fire")


@pytest.mark.parametrize("written", ["{}", "{}/", "%20{}", "{plain}", "{upper}", "{braces}"])
def test_ids_may_be_written_as_clients_print_them(front: RunningFront, name: str, written: str) -> None:
    identity = new_id(front.ask("PUT", "/DM/register", fields(name)))
    path = written.format(identity, plain=identity.replace("-", ""), upper=identity.upper(), braces=f"%7B{identity}%7D")
    answer = front.ask("GET", f"/DM/info/{path}")
    if "braces" in written:
        told(answer, 404, f"{{{identity}}} does not exist")
    else:
        assert answer.json["id"] == identity


class _Any:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and bool(other)

    __hash__ = None  # type: ignore[assignment]


_any: Any = _Any()


@pytest.mark.parametrize("path", ["/DM/info/nobody", f"/DM/info/{uuid.UUID(int=0)}"])
def test_info_of_nothing(front: RunningFront, path: str) -> None:
    told(front.ask("GET", path), 404, f"{path.rpartition('/')[2]} does not exist")


def test_search(front: RunningFront, name: str) -> None:
    identity = new_id(front.ask("PUT", "/DM/register", fields(name)))
    query = fronts.urlencode({"filename": name, "machine": "localhost"})
    for path in (f"/DM/search?{query}", f"/DM/search/?{query}", f"/DM/search?{query}&path=forecast%2Frun1"):
        record = front.ask("GET", path).json
        assert (record["id"], "absolute_path" in record) == (identity, False)
    told(front.ask("GET", f"/DM/search?{query}&path=elsewhere"), 404, "No such data object registered")
    told(front.ask("GET", "/DM/search?filename=x"), 501, "Need filename and machine")
    told(front.ask("GET", "/DM/search?machine=x"), 501, "Need filename and machine")
    told(front.ask("GET", "/DM/search?machine=localhost&filename=none"), 404, "No such data object registered")
    new_id(front.ask("PUT", "/DM/register", fields(name, path="forecast/run2")))
    told(front.ask("GET", f"/DM/search?{query}"), 400, "Multiple search results found")


def test_absolute_paths_are_for_administrators(front: RunningFront, place: Site, name: str) -> None:
    identity = new_id(front.ask("PUT", "/DM/register", fields(name)))
    token = front.token(f"boss-{name}", Scope.ADMIN)
    record = front.ask("GET", f"/DM/info/{identity}", token=token).json
    assert record["absolute_path"] == f"{place.local}/forecast/run1/{name}"
    assert identity in {each["id"] for each in front.ask("GET", "/DM/info", token=token).json}
    assert str(place.local) not in front.ask("GET", "/DM/info").text


# ---- put, get ----


def test_put_and_get(front: RunningFront, place: Site, name: str) -> None:
    asked = fields(name, payload="line 1\nline 2 ☃ +&%")
    del asked["size"]
    identity = new_id(front.ask("PUT", "/DM/put", asked))
    content = "line 1\nline 2 ☃ +&%".encode()
    assert (place.local / "forecast/run1" / name).read_bytes() == content
    assert front.ask("GET", f"/DM/info/{identity}").json["size"] == len(content)
    for verb in ("/DM/get/{}", "/DM/get/{}/"):
        answer = front.ask("GET", verb.format(identity), {"gather_metrics": "True"})
        assert (answer.status, answer.body) == (200, content)


BINARY = bytes(range(256)) * 40


@pytest.mark.parametrize("encoding", ["form", "multipart", "raw"])
def test_put_binary(front: RunningFront, place: Site, name: str, encoding: str) -> None:
    asked = {key: value for key, value in fields(name, path="binary").items() if key != "size"}
    if encoding == "form":
        answer = front.ask("PUT", "/DM/put", {**asked, "payload": BINARY})
    elif encoding == "multipart":
        parts = {**asked, "payload": BINARY}
        answer = front.ask(
            "PUT", "/DM/put", multipart(parts), headers={"Content-Type": "multipart/form-data; boundary=xyz"}
        )
    else:
        path = "/DM/put?" + fronts.urlencode(asked)
        answer = front.ask("PUT", path, BINARY, headers={"Content-Type": "application/octet-stream"})
    identity = new_id(answer)
    assert (place.local / "binary" / name).read_bytes() == BINARY
    assert front.ask("GET", f"/DM/get/{identity}").body == BINARY


def multipart(parts: Mapping[str, object]) -> bytes:
    body = b""
    for key, value in parts.items():
        disposition = f'form-data; name="{key}"' + ('; filename="x"' if isinstance(value, bytes) else "")
        body += f"--xyz\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        body += (value if isinstance(value, bytes) else str(value).encode()) + b"\r\n"
    return body + b"--xyz--\r\n"


def test_put_needs_a_payload_and_leaves_nothing(front: RunningFront, name: str) -> None:
    answer = front.ask("PUT", "/DM/put", fields(name))
    assert (answer.status, "payload" in answer.text) == (400, True)
    refused = front.ask("PUT", "/DM/put", fields(name, machine="nowhere", payload="x"))
    assert refused.status == 400
    assert front.ask("GET", f"/DM/search?machine=localhost&filename={name}").status == 404
    spool = front.settings.directory / "spool"
    fronts.until(lambda: not spool.exists() or not list(spool.iterdir()))


def test_put_does_not_overwrite(front: RunningFront, place: Site, name: str) -> None:
    asked = fields(name, path="over", payload="new")
    (place.local / "over").mkdir(exist_ok=True)
    (place.local / "over" / name).write_bytes(b"old")
    told(front.ask("PUT", "/DM/put", asked), 406, "File already exists")
    assert (place.local / "over" / name).read_bytes() == b"old"
    # Nothing is registered, and nothing keeps the place.
    assert front.ask("GET", f"/DM/search?machine=localhost&filename={name}").status == 404
    (place.local / "over" / name).unlink()
    new_id(front.ask("PUT", "/DM/put", asked))


@pytest.mark.parametrize("identity", ["nobody", str(uuid.UUID(int=0))])
def test_get_of_nothing(front: RunningFront, identity: str) -> None:
    told(front.ask("GET", f"/DM/get/{identity}"), 404, "Data not found")


# ---- copy, move, delete ----


@pytest.mark.parametrize("machine", ["localhost", "hpc1"])
@pytest.mark.parametrize("verb", ["POST", "PUT"])
def test_copy(front: RunningFront, place: Site, name: str, machine: str, verb: str) -> None:
    identity = registered(front, place, name)
    asked = {"machine": machine, "dest": f"new/directory/{name}", "gather_metrics": "False"}
    copy = new_id(front.ask(verb, f"/DM/copy/{identity}", asked))
    assert copy != identity
    there = place.local if machine == "localhost" else place.remote
    assert (there / "new/directory" / name).read_bytes() == b"twelve bytes"
    assert (place.local / name).exists()
    record = front.ask("GET", f"/DM/info/{copy}").json
    assert (record["machine"], record["path"], record["filename"]) == (machine, "new/directory", name)
    assert (record["size"], record["group"], record["status"]) == (12, "fire", "ACTIVE")
    assert front.ask("GET", f"/DM/get/{copy}").body == b"twelve bytes"
    # The second time the place is taken.
    told(front.ask(verb, f"/DM/copy/{identity}/", asked), 406, "File already exists")


@pytest.mark.parametrize("machine", ["localhost", "hpc1"])
def test_move(front: RunningFront, place: Site, name: str, machine: str) -> None:
    identity = registered(front, place, name)
    asked = {"machine": machine, "dest": f"moved/{name}"}
    told(front.ask("POST", f"/DM/move/{identity}", asked), 200, "Move successful")
    there = place.local if machine == "localhost" else place.remote
    assert (there / "moved" / name).read_bytes() == b"twelve bytes"
    assert not (place.local / name).exists()
    record = front.ask("GET", f"/DM/info/{identity}").json
    assert (record["machine"], record["path"], record["filename"]) == (machine, "moved", name)
    modified = email.utils.parsedate_to_datetime(record["date_modified"])
    assert abs(modified.timestamp() - time.time()) < 60


@pytest.mark.parametrize("call", ["copy", "move", "async/copy", "async/move"])
def test_copies_and_moves_that_are_refused(front: RunningFront, place: Site, name: str, call: str) -> None:
    asked = {"machine": "localhost", "dest": f"x/{name}"}
    unknown = str(uuid.UUID(int=0))
    told(front.ask("POST", f"/DM/{call}/{unknown}", asked), 404, f"Object {unknown} does not exist")
    told(front.ask("POST", f"/DM/{call}/nobody", asked), 404, "Object nobody does not exist")
    identity = registered(front, place, name)
    for lacking in asked:
        answer = front.ask("POST", f"/DM/{call}/{identity}", {key: asked[key] for key in asked if key != lacking})
        assert (answer.status, lacking in answer.text) == (400, True)
    told(front.ask("POST", f"/DM/{call}/{identity}", {"machine": "localhost", "dest": "../escaped.txt"}), 400, _any)
    answer = front.ask("POST", f"/DM/{call}/{identity}", {"machine": "localhos", "dest": "x"})
    assert (answer.status, "did you mean localhost?" in answer.text) == (400, True)
    answer = front.ask("POST", f"/DM/{call}/{identity}", {**asked, "storage_technology": "VESTECDB"})
    assert answer.status == 501
    told(
        front.ask("POST", f"/DM/{call}/{identity}", {"machine": "localhost", "dest": name}), 406, "File already exists"
    )
    other = registered(front, place, f"other-{name}", b"other", path="x2")
    taken = {"machine": "localhost", "dest": f"x2/other-{name}"}
    told(front.ask("POST", f"/DM/{call}/{identity}", taken), 406, "File already exists")
    assert front.ask("GET", f"/DM/get/{other}").body == b"other"


def test_a_file_that_is_not_there(front: RunningFront, name: str) -> None:
    identity = new_id(front.ask("PUT", "/DM/register", fields(name, path="nothing")))
    answer = front.ask("POST", f"/DM/copy/{identity}", {"machine": "localhost", "dest": f"y/{name}"})
    assert answer.status == 500
    assert answer.text
    # What was reserved for the copy is free again.
    assert front.ask("GET", f"/DM/search?machine=localhost&filename={name}&path=y").status == 404


@pytest.mark.parametrize(("call", "words"), [("remove", "{name} deleted"), ("delete", "localhost:gone/{name} deleted")])
def test_delete(front: RunningFront, place: Site, name: str, call: str, words: str) -> None:
    identity = registered(front, place, name, path="gone")
    for _ in range(2):  # the second time as well
        told(front.ask("DELETE", f"/DM/{call}/{identity}"), 200, words.format(name=name))
    assert not (place.local / "gone" / name).exists()
    record = front.ask("GET", f"/DM/info/{identity}").json
    assert record["status"] == "DELETED"
    told(front.ask("GET", f"/DM/get/{identity}"), 404, "Data not found")
    asked = {"machine": "localhost", "dest": "z"}
    told(front.ask("POST", f"/DM/copy/{identity}", asked), 404, f"Object {identity} does not exist")
    told(front.ask("DELETE", f"/DM/{call}/{uuid.UUID(int=0)}"), 404, "Data object not found")
    # Its place can be registered again, and what is there now is what a search finds.
    again = registered(front, place, name, path="gone")
    assert front.ask("GET", f"/DM/search?machine=localhost&filename={name}").json["id"] == again


# ---- getexternal ----


def external(name: str, source: HttpSource, **more: object) -> dict[str, object]:
    return fields(name, path="external", url=f"{source.url}/data.nc", protocol="http", options="{}", **more)


@pytest.mark.parametrize("machine", ["localhost", "hpc1"])
@pytest.mark.parametrize("call", ["/DM/getexternal", "/DM/getexternal/"])
def test_get_external(front: RunningFront, place: Site, source: HttpSource, name: str, machine: str, call: str) -> None:
    identity = new_id(front.ask("PUT", call, external(name, source, machine=machine)))
    there = place.local if machine == "localhost" else place.remote
    assert (there / "external" / name).read_bytes() == source.files["/data.nc"]
    record = front.ask("GET", f"/DM/info/{identity}").json
    assert (record["size"], record["originator"]) == (len(source.files["/data.nc"]), "weather simulation")
    told(front.ask("PUT", call, external(name, source, machine=machine)), 406, "File already exists")


def test_get_external_with_options(front: RunningFront, place: Site, source: HttpSource, name: str) -> None:
    user, password = source.LOGIN
    options = json.dumps({"user": user, "password": password, "headers": {"X-Project": "fire"}})
    asked = {**external(name, source), "url": f"{source.url}/private/data.nc", "options": options}
    new_id(front.ask("PUT", "/DM/getexternal", asked))
    assert (place.local / "external" / name).read_bytes() == b"for alice"
    assert source.seen[-1][1]["X-Project"] == "fire"
    refused = front.ask("PUT", "/DM/getexternal", {**asked, "filename": f"2{name}", "options": "{}"})
    assert (refused.status, "401" in refused.text) == (500, True)
    assert password not in front.ask("GET", "/DM/info").text


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"url": "{source}/nothing"}, 500, "404"),
        ({"protocol": "ftp", "url": "ftp://h/x"}, 501, "'ftp' protocol not supported (yet?)"),
        ({"protocol": "gopher"}, 501, "'gopher' protocol not supported (yet?)"),
        ({"url": "file:///etc/passwd"}, 501, "'file' protocol not supported (yet?)"),
        ({"protocol": "file", "url": "file:///etc/passwd"}, 501, "'file' protocol not supported (yet?)"),
        ({"url": "{source}/data.nc -o /tmp/other"}, 400, ""),
        ({"url": "http://"}, 400, ""),
        ({"url": "/data.nc"}, 400, "url is no URL"),
        ({"url": "//h/data.nc"}, 400, "url is no URL"),
        ({"url": ""}, 400, "url is no URL"),
        ({"url": "file:/etc/passwd"}, 501, "'file' protocol not supported (yet?)"),
        ({"url": "localhost/x", "protocol": "ftp"}, 400, "url is no URL"),
        ({"protocol": ""}, 501, "'' protocol not supported (yet?)"),
        ({"options": "{"}, 400, "options"),
        ({"options": "[]"}, 400, "options"),
        ({"options": '{"usr": "x"}'}, 400, "did you mean user?"),
        ({"path": "../../etc"}, 400, ".."),
        ({"filename": "a/b"}, 400, "filename"),
        ({"filename": ".."}, 400, ".."),
        ({"machine": "nowhere"}, 400, "nowhere"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("call", ["getexternal", "async/getexternal"])
def test_get_external_that_is_refused(
    front: RunningFront, source: HttpSource, name: str, change: dict[str, str], status: int, text: str, call: str
) -> None:
    change = {key: value.format(source=source.url) if key == "url" else value for key, value in change.items()}
    answer = front.ask("PUT", f"/DM/{call}", {**external(name, source), **change})
    if call == "getexternal" or status < 500 or status == 501:
        assert answer.status == status, answer.text
        assert text in answer.text
    else:
        ended = task(front, new_id(answer, 200))
        assert (ended["status"], text in ended["result"]) == ("ERROR", True)


@pytest.mark.parametrize(
    ("protocol", "scheme"),
    [("http", "http://"), ("HTTP", "http://"), ("https", "http://"), ("http", "HTTP://"), ("http", "")],
)
@pytest.mark.parametrize("options", [None, "", "{}", " {} ", "null"])
def test_get_external_takes_the_spellings_of_old(
    front: RunningFront, place: Site, source: HttpSource, name: str, protocol: str, scheme: str, options: str | None
) -> None:
    asked = external(name, source) | {"protocol": protocol, "url": source.url.replace("http://", scheme) + "/data.nc"}
    if options is None:
        del asked["options"]
    else:
        asked["options"] = options
    new_id(front.ask("PUT", "/DM/getexternal", asked))
    assert (place.local / "external" / name).read_bytes() == source.files["/data.nc"]


@pytest.mark.parametrize(
    "lacking", ["filename", "machine", "description", "originator", "group", "path", "url", "protocol"]
)
def test_get_external_needs_its_fields(front: RunningFront, source: HttpSource, name: str, lacking: str) -> None:
    asked = external(name, source)
    del asked[lacking]
    answer = front.ask("PUT", "/DM/getexternal", asked)
    assert (answer.status, lacking in answer.text) == (400, True)


def test_get_external_with_a_callback_does_not_wait(
    front: RunningFront, place: Site, source: HttpSource, name: str
) -> None:
    asked = external(name, source, callback=f"{source.url}/told/{name}", incidentId="incident 7")
    told(front.ask("PUT", "/DM/getexternal", asked), 201, "Scheduled")

    def heard() -> list[Any]:
        return [message for path, message in source.posted if path == f"/told/{name}"]

    message = fronts.until(heard)[0]
    assert (message["IncidentID"], message["success"]) == ("incident 7", True)
    assert message["originator"] == "weather simulation"
    assert message["MessageID"]
    assert front.ask("GET", f"/DM/get/{message['response']}").body == source.files["/data.nc"]
    failing = {**asked, "filename": f"2{name}", "url": f"{source.url}/nothing"}
    told(front.ask("PUT", "/DM/getexternal", failing), 201, "Scheduled")
    message = fronts.until(lambda: heard()[1:])[0]
    assert (message["success"], "404" in message["response"]) == (False, True)


# ---- the background ----


@pytest.mark.parametrize("verb", ["PUT", "POST"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_async_get_external(
    front: RunningFront, place: Site, source: HttpSource, name: str, verb: str, slash: str
) -> None:
    ended = task(front, new_id(front.ask(verb, f"/DM/async/getexternal{slash}", external(name, source)), 200))
    assert ended["status"] == "COMPLETE"
    assert front.ask("GET", f"/DM/get/{ended['result']}").body == source.files["/data.nc"]


def test_async_copy_and_move(front: RunningFront, place: Site, name: str) -> None:
    identity = registered(front, place, name)
    asked = {"machine": "hpc1", "dest": f"async/{name}"}
    ended = task(front, new_id(front.ask("POST", f"/DM/async/copy/{identity}", asked), 200))
    assert ended["status"] == "COMPLETE"
    assert front.ask("GET", f"/DM/info/{ended['result']}").json["machine"] == "hpc1"
    asked = {"machine": "hpc1", "dest": f"async/moved-{name}"}
    ended = task(front, new_id(front.ask("POST", f"/DM/async/move/{identity}", asked), 200))
    assert ended == {"status": "COMPLETE", "result": "Move completed"}
    assert not (place.local / name).exists()


@pytest.mark.parametrize("path", ["", "/", "/nobody", f"/{uuid.UUID(int=0)}", "/%00", "/%ff"])
def test_no_such_task(front: RunningFront, path: str) -> None:
    told(front.ask("GET", f"/DM/async/status{path}"), 404, "Async task not found")


# ---- the archive ----


@pytest.mark.parametrize("verb", ["POST", "PUT"])
def test_archive_and_activate(front: RunningFront, place: Site, name: str, verb: str) -> None:
    identity = registered(front, place, name, path="cold")
    told(front.ask(verb, f"/DM/archive/{identity}"), 200, "Archive successful")
    assert not (place.local / "cold" / name).exists()
    assert [path.read_bytes() for path in place.tape.rglob(name)] == [b"twelve bytes"]
    record = front.ask("GET", f"/DM/info/{identity}").json
    assert (record["status"], record["machine"]) == ("ARCHIVED", "tape")
    assert front.ask("GET", f"/DM/get/{identity}").status == 409
    told(front.ask(verb, f"/DM/activate/{identity}/"), 200, "Activate successful")
    assert (place.local / "cold" / name).read_bytes() == b"twelve bytes"
    record = front.ask("GET", f"/DM/info/{identity}").json
    assert (record["status"], record["machine"], record["path"]) == ("ACTIVE", "localhost", "cold")


def test_an_archive_is_asked_twice_and_its_old_place_is_taken(front: RunningFront, place: Site, name: str) -> None:
    identity = registered(front, place, name, path="cold2")
    told(front.ask("POST", f"/DM/archive/{identity}", {}), 200, "Archive successful")
    assert front.ask("POST", f"/DM/archive/{identity}", {}).status == 409
    asked = {"machine": "localhost", "dest": f"warm/{name}"}
    for call in ("copy", "move"):
        assert front.ask("POST", f"/DM/{call}/{identity}", asked).status == 409
    # By a file that nobody registered, then by another object.
    (place.local / "cold2" / name).write_bytes(b"another one")
    told(front.ask("POST", f"/DM/activate/{identity}", {}), 406, "File already exists")
    other = new_id(front.ask("PUT", "/DM/register", fields(name, path="cold2")))
    told(front.ask("POST", f"/DM/activate/{identity}", {}), 406, "File already exists")
    assert (place.local / "cold2" / name).read_bytes() == b"another one"
    told(front.ask("DELETE", f"/DM/remove/{other}"), 200, f"{name} deleted")
    told(front.ask("POST", f"/DM/activate/{identity}", {}), 200, "Activate successful")
    assert front.ask("POST", f"/DM/activate/{identity}", {}).status == 409
    assert (place.local / "cold2" / name).read_bytes() == b"twelve bytes"
    told(front.ask("POST", f"/DM/archive/{identity}", {}), 200, "Archive successful")
    told(front.ask("DELETE", f"/DM/delete/{identity}"), 200, f"tape:{identity}/{name} deleted")
    assert front.ask("GET", f"/DM/info/{identity}").json["status"] == "DELETED"
    assert not list(place.tape.rglob(f"*{identity}*"))


def test_a_directory_is_an_object(front: RunningFront, place: Site, name: str) -> None:
    (place.local / name / "sub").mkdir(parents=True)
    (place.local / name / "sub/a").write_bytes(b"a")
    (place.local / name / "b").write_bytes(b"b")
    identity = new_id(front.ask("PUT", "/DM/register", fields(name, path=".", size=0)))
    answer = front.ask("GET", f"/DM/get/{identity}")
    assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert "is a directory" in answer.text
    new_id(front.ask("POST", f"/DM/copy/{identity}", {"machine": "hpc1", "dest": f"dirs/{name}"}))
    told(front.ask("POST", f"/DM/archive/{identity}", {}), 200, "Archive successful")
    assert not (place.local / name).exists()
    told(front.ask("POST", f"/DM/activate/{identity}", {}), 200, "Activate successful")
    told(
        front.ask("POST", f"/DM/move/{identity}", {"machine": "hpc1", "dest": f"moved/{name}"}), 200, "Move successful"
    )
    for directory in ("dirs", "moved"):
        assert (place.remote / directory / name / "sub/a").read_bytes() == b"a"
        assert (place.remote / directory / name / "b").read_bytes() == b"b"
    told(front.ask("DELETE", f"/DM/delete/{identity}"), 200, f"hpc1:moved/{name} deleted")
    assert not (place.remote / "moved" / name).exists()


@pytest.mark.parametrize("call", ["archive", "activate"])
def test_an_archive_of_nothing(front: RunningFront, call: str) -> None:
    told(front.ask("POST", f"/DM/{call}/nobody"), 404, "Object nobody does not exist")


# ---- predict ----


def test_predict(front: RunningFront, place: Site, source: HttpSource, name: str) -> None:
    identity = registered(front, place, name, os.urandom(100_000))
    new_id(front.ask("POST", f"/DM/copy/{identity}", {"machine": "tape", "dest": f"p/{name}"}))
    answer = front.ask("POST", "/DM/predict", {"uuid": identity, "dest_machine": "tape"})
    assert answer.status == 201
    seconds = answer.json["prediction_time"]
    assert 0 < seconds < 60
    # A transfer that failed says nothing of the others.
    nothing = new_id(front.ask("PUT", "/DM/register", fields(name, path="nothing")))
    failed = front.ask("POST", f"/DM/copy/{nothing}", {"machine": "tape", "dest": f"p/none-{name}"})
    assert failed.status == 500
    assert front.ask("POST", "/DM/predict", {"uuid": identity, "dest_machine": "tape"}).json["prediction_time"] > 0
    asked = {"src_machine": "localhost", "data_size": "200000", "dest_machine": "tape"}
    assert front.ask("POST", "/DM/predict", asked).json["prediction_time"] == pytest.approx(2 * seconds, rel=0.5)
    nobody = str(uuid.UUID(int=0))
    told(
        front.ask("POST", "/DM/predict", {"uuid": nobody, "dest_machine": "tape"}),
        404,
        f"Data with uuid '{nobody}' not found",
    )
    told(
        front.ask("POST", "/DM/predict", {**asked, "src_machine": "nowhere"}),
        400,
        "No matching data transfers between machines",
    )
    for lacking in asked:
        left = {key: value for key, value in asked.items() if key != lacking}
        assert front.ask("POST", "/DM/predict", left).status == 400
    assert front.ask("POST", "/DM/predict", {**asked, "data_size": "much"}).status == 400


# ---- the released dialect, the bound of waiting, who may do what ----


def test_the_released_dialect(tmp_path: Path) -> None:
    place = fronts.site(tmp_path / "site")
    with fronts.running(tmp_path / "front", place.endpoints, worker=True, datamanager_dialect="released") as front:
        (place.local / "top.nc").write_bytes(b"twelve bytes")
        asked = {key: value for key, value in FIELDS.items() if key != "path"}
        identity = new_id(front.ask("PUT", "/DM/register", {**asked, "filename": "top.nc", "type": "netcdf"}))
        assert front.ask("GET", f"/DM/info/{identity}").json["path"] == ""
        moved = front.ask("POST", f"/DM/move/{identity}", {"machine": "localhost", "dest": "sub/top.nc"})
        told(moved, 201, identity)


def test_waiting_has_a_bound(tmp_path: Path) -> None:
    place = fronts.site(tmp_path / "site")
    with fronts.running(tmp_path / "front", place.endpoints, sync_timeout=1) as front:
        identity = registered(front, place, "slow.nc")
        answer = front.ask("POST", f"/DM/copy/{identity}", {"machine": "localhost", "dest": "x"})
        assert answer.status == 202
        identity = answer.text.rpartition("/")[2]
        assert front.ask("GET", f"/DM/async/status/{identity}").json == {"status": "QUEUED", "result": ""}


def test_scopes_and_owners(tmp_path: Path) -> None:
    place = fronts.site(tmp_path / "site")
    with fronts.running(tmp_path / "front", place.endpoints, anonymous="none") as front:
        tokens = {scope: front.token(f"token-{scope}", scope) for scope in (Scope.READ, Scope.SUBMIT, Scope.ADMIN)}
        other = front.token("other", Scope.SUBMIT)
        assert front.ask("GET", "/DM/info").status == 401
        assert front.ask("PUT", "/DM/register", fields("a")).status == 401
        assert front.ask("GET", "/DM/info", token=tokens[Scope.READ]).status == 200
        answer = front.ask("PUT", "/DM/register", fields("a"), token=tokens[Scope.READ])
        assert (answer.status, answer.headers["content-type"]) == (403, "text/plain; charset=utf-8")
        identity = new_id(front.ask("PUT", "/DM/register", fields("a"), token=tokens[Scope.SUBMIT]))
        for path in (f"/DM/move/{identity}", f"/DM/archive/{identity}"):
            asked = {"machine": "localhost", "dest": "b"}
            assert front.ask("POST", path, asked, token=other).status == 403
        assert front.ask("DELETE", f"/DM/delete/{identity}", token=other).status == 403
        assert front.ask("GET", f"/DM/info/{identity}", token=other).status == 200
