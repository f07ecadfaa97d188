"""Pure decisions about jobs: options and hashes, retries, addresses, and what jobs mean for the catalogue."""

from __future__ import annotations

import pytest

from mistamover.config.serving import EngineSettings
from mistamover.errors import JobRefused, LinkError, TargetError
from mistamover.jobs import options
from mistamover.jobs.outside import is_public
from mistamover.jobs.transfer.faults import Again, Trouble, decide_retry, one_line, trouble
from mistamover.jobs.transfer.places import Missing
from mistamover.model import FaultClass
from mistamover.transport.far import FarRefusal

ENGINE = EngineSettings(database_url="", retry_count=3, retry_pause=2.0, give_up_after=3600.0)


def again(error: Trouble, *, attempts: int = 0, now: float = 0.0, deadline: float | None = None) -> Again | None:
    return decide_retry(error, ENGINE, attempts=attempts, began=0.0, now=now, deadline=deadline)


def test_what_will_not_pass_is_not_tried_again() -> None:
    assert again(Trouble(FaultClass.REFUSED, "no", final=True)) is None


def test_pauses_grow_until_the_attempts_are_used_up() -> None:
    error = Trouble(FaultClass.CHANGED, "it changed")
    assert [found and found.not_before for found in (again(error, attempts=n) for n in range(5))] == [
        2,
        4,
        8,
        None,
        None,
    ]


def test_an_endpoint_that_cannot_be_reached_costs_time_and_no_attempts() -> None:
    error = Trouble(FaultClass.LINK, "away", endpoint="hpc")
    assert again(error, attempts=100, now=3000.0) == Again(not_before=3060.0, whole=True)
    assert again(error, attempts=100, now=3590.0) is None
    outside = Trouble(FaultClass.LINK, "away", endpoint="http://host")
    assert again(outside, attempts=0) == Again(not_before=2.0, whole=False)
    assert again(outside, attempts=3) is None


def test_nothing_is_tried_behind_its_deadline() -> None:
    error = Trouble(FaultClass.CHANGED, "it changed")
    assert again(error, now=10.0, deadline=12.0) is None
    assert again(error, now=10.0, deadline=12.1) is not None


def test_an_importer_may_want_a_longer_pause() -> None:
    error = Trouble(FaultClass.LINK, "away")
    error.pause = 10.0
    assert again(error) == Again(not_before=10.0, whole=False)


@pytest.mark.parametrize(
    ("error", "fault", "final"),
    [
        (LinkError("x"), FaultClass.LINK, False),
        (TargetError("full"), FaultClass.TARGET, False),
        (FarRefusal("no"), FaultClass.REFUSED, True),
        (Missing("none"), FaultClass.VANISHED, True),
        (JobRefused("disabled", "off"), FaultClass.REFUSED, True),
        (OSError(28, "No space left on device"), FaultClass.HERE, False),
    ],
)
def test_errors_say_who_is_to_blame(error: Exception, fault: FaultClass, final: bool) -> None:
    found = trouble(error, "hpc")
    assert (found.fault, found.final, found.endpoint) == (fault, final, "hpc")


def test_reasons_are_one_printable_line_of_some_length() -> None:
    line = one_line("\x01scp: a\nb\x1b[31m" + "x" * 1000)
    assert line.isprintable()
    assert len(line) == 500


def test_secrets_are_taken_out_of_the_options() -> None:
    plain, secrets = options.split({"username": "u", "password": "p", "recursive": True, "headers": {"X-A": "1"}})
    assert plain == {"recursive": True}
    assert (secrets["user"], secrets["password"]) == ("u", "p")
    assert options.headers(secrets) == {"X-A": "1"}
    _, secrets = options.split({"cookies": {"name": "__ac", "value": "t", "domain": "h", "path": "/", "secure": "1"}})
    assert options.headers(secrets) == {"Cookie": "__ac=t"}


@pytest.mark.parametrize(
    "given",
    [
        {"pasword": "x"}, {"password": 1}, {"password": "a\r\nX: y"}, {"headers": "x"}, {"headers": {"Host": "h"}},
        {"headers": {"A b": "c"}}, {"headers": {"Range": "x"}}, {"recursive": "yes"}, {"token": "x" * 20_000},
    ],
)  # fmt: skip
def test_options_that_cannot_be_taken_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(JobRefused) as refusal:
        options.split(given)
    assert refusal.value.code == "bad-option"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("", "", ("", "")), ("MD5", "D41D8CD98F00B204E9800998ECF8427E", ("md5", "d41d8cd98f00b204e9800998ecf8427e")),
        ("SHA-256", "", ("sha256", "")), ("sha3-256", "", ("sha3_256", "")),
        ("sha1", " " + "0" * 40, ("sha1", "0" * 40)),
    ],
)  # fmt: skip
def test_hashes_are_written_in_one_way(kind: str, value: str, expected: tuple[str, str]) -> None:
    assert options.checked_hash(kind, value) == expected


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("169.254.169.254", False), ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False), ("::ffff:0:127.0.0.1", False), ("64:ff9b:1::7f00:1", False), ("fec0::1", False),
        ("3fff::1", False), ("192.0.0.8", False), ("192.88.99.1", False), ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False), ("224.0.0.1", False), ("::", False),
    ],
)  # fmt: skip
def test_only_addresses_of_the_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
