"""What [email] and [notify] mean together, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mistamover.config.access import Tls
from mistamover.config.settings import AlertSettings, AmqpSettings, MailSettings, NotifySettings
from unit.config.sites import Site


def alerts(site: Site, text: str) -> AlertSettings | None:
    site.write_global(text)
    settings = site.load()
    assert settings.warnings == ()
    return settings.alerts


def mail(site: Site, text: str) -> MailSettings:
    found = alerts(site, f"[email]\nrecipient = a@b\n{text}")
    assert found is not None
    assert found.mail is not None
    return found.mail


def private(path: Path, mode: int = 0o600) -> Path:
    path.write_text("user\npassword\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", ["", "[email]\nfrom = a@b\nsmarthost = mail\nrecipient =\n", "[notify]\nurl =\n"])
def test_nobody_is_told_unless_somebody_is_named(site: Site, text: str) -> None:
    assert alerts(site, text) is None


def test_what_is_not_said_has_a_good_value(site: Site) -> None:
    found = alerts(site, "[email]\nrecipient = a@b, c@d e@f\n")
    assert found is not None
    assert found.notify is None
    assert (found.after, found.remind_interval, found.threshold, found.collect_time) == (30, 43200, "ERROR", 300)
    assert found.mail == MailSettings(
        sender=f"mistamover@{os.uname().nodename}",
        recipients=("a@b", "c@d", "e@f"),
        subject="MiStaMover",
        host="localhost",
        port=25,
        tls=Tls.NONE,
        ca_file=None,
        login_file=None,
    )


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("smarthost = mail.example.org\n", "mail.example.org", 25),
        ("smarthost = mail:2525\n", "mail", 2525),
        ("smarthost = mail\nport = 587\ntls = starttls\n", "mail", 587),
        ("smarthost = mail:587\nport = 587\n", "mail", 587),
        ("smarthost = mail\ntls = tls\n", "mail", 465),
        ("smarthost = ::1\n", "::1", 25),
        ("smarthost = [::1]:26\n", "::1", 26),
        ("smarthost = [::1]\n", "::1", 25),
    ],
)
def test_the_mail_server_and_its_port(site: Site, text: str, host: str, port: int) -> None:
    found = mail(site, text)
    assert (found.host, found.port) == (host, port)


def test_a_login_needs_an_encrypted_way_or_this_host(site: Site) -> None:
    login = private(site.conf / "login")
    assert mail(site, "login_file = login\n").login_file == login
    assert mail(site, "smarthost = mail\ntls = starttls\nlogin_file = login\n").login_file == login
    site.write_global("[email]\nrecipient = a@b\nsmarthost = mail\nlogin_file = login\n")
    assert "in the clear" in site.problem().message


def test_notifications(site: Site) -> None:
    secret = private(site.conf / "secret", 0o400)
    found = alerts(site, "[notify]\nurl = https://h:8/x?y\nsecret_file = secret\nevents = incident, delivered\n")
    assert found is not None
    assert found.mail is None
    assert found.notify == NotifySettings(
        url="https://h:8/x?y", secret_file=secret, ca_file=None, events=("delivered", "incident")
    )


def amqp(site: Site, text: str) -> AmqpSettings:
    found = alerts(site, f"[notify]\n{text}")
    assert found is not None
    assert found.amqp is not None
    return found.amqp


def test_a_broker_needs_only_a_host(site: Site) -> None:
    found = alerts(site, "[notify]\namqp_url = amqp://h\n")
    assert found is not None
    assert (found.mail, found.notify) == (None, None)
    assert found.amqp == AmqpSettings(
        host="h",
        port=5672,
        tls=False,
        vhost="/",
        user="guest",
        password_file=None,
        ca_file=None,
        exchange="mistamover",
        routing_key="mistamover.{stream}.{event}",
        mandatory=True,
        events=("delivered", "quarantined", "incident"),
    )


def test_a_broker_with_everything(site: Site) -> None:
    password = private(site.conf / "password")
    (site.conf / "ca").touch()
    lines = ("amqp_url = amqps://me%40x@[::1]:99/a%2Fb", "amqp_password_file = password", "ca_file = ca")
    more = ("amqp_exchange = data", "amqp_routing_key = {event}.x", "amqp_mandatory = False", "events = incident")
    assert amqp(site, "\n".join((*lines, *more, ""))) == AmqpSettings(
        host="::1",
        port=99,
        tls=True,
        vhost="a/b",
        user="me@x",
        password_file=password,
        ca_file=site.conf / "ca",
        exchange="data",
        routing_key="{event}.x",
        mandatory=False,
        events=("incident",),
    )
    assert amqp(site, "amqp_url = amqps://h/v\n").port == 5671


def test_a_password_in_the_clear_is_warned_of(site: Site) -> None:
    private(site.conf / "password")
    text = "amqp_password_file = password\namqp_url = "
    assert amqp(site, f"{text}amqp://me@localhost/\n").user == "me"
    site.write_global(f"[notify]\n{text}amqp://me@h/\n")
    (warning,) = site.load().warnings
    assert "travels in the clear" in warning


def test_a_broker_without_the_library_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kombu", raising=False)
    monkeypatch.setattr("mistamover.config.amqp.find_spec", lambda _: None)
    site.write_global("[notify]\namqp_url = amqp://h/\n")
    problem = site.problem()
    assert (problem.key, problem.hint) == ("amqp_url", "pip install mistamover[amqp]")


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[email]\nrecipient = jürgen@b\n", "recipient", "not a mail address"),
        ("[email]\nrecipient = a@b\nfrom = -x\n", "from", "not a mail address"),
        ("[email]\nrecipient = a@b\nsmarthost = a b\n", "smarthost", "is not a host"),
        ("[email]\nrecipient = a@b\nsmarthost = mail:99999\n", "smarthost", "is out of range"),
        ("[email]\nrecipient = a@b\nsmarthost = mail:25\nport = 26\n", "port", "smarthost says 25"),
        ("[email]\nrecipient = a@b\ntls = ssl\n", "tls", "one of none, starttls, tls"),
        ("[email]\nrecipient = a@b\nca_file = none\n", "ca_file", "there is no file"),
        ("[email]\nrecipient = a@b\nlogin_file = none\n", "login_file", "No such file"),
        ("[email]\nrecipient = a@b\nlogin_file = open\n", "login_file", "read by others (mode 0640): run chmod 600"),
        ("[notify]\nurl = ftp://h/\n", "url", "expected http://HOST"),
        ("[notify]\nurl = http://h:x/\n", "url", "is not a URL"),
        ("[notify]\nurl = http://h/\nevents = deliverd\n", "events", '"deliverd" is not known'),
        ("[notify]\nurl = http://h/\nsecret_file = open\n", "secret_file", "only its owner can read"),
        ("[notify]\namqp_url = http://h/\n", "amqp_url", "is not the URL of a broker"),
        ("[notify]\namqp_url = amqp:///v\n", "amqp_url", "is not the URL of a broker"),
        ("[notify]\namqp_url = amqp://h/a/b\n", "amqp_url", "is not the URL of a broker"),
        ("[notify]\namqp_url = amqp://h/?x=1\n", "amqp_url", "is not the URL of a broker"),
        ("[notify]\namqp_url = amqp://-h/\n", "amqp_url", "is not the URL of a broker"),
        ("[notify]\namqp_url = amqp://h:x/\n", "amqp_url", "is not a URL"),
        ("[notify]\namqp_url = amqp://me@h/\n", "amqp_url", "expected amqp_password_file as well"),
        ("[notify]\namqp_url = amqps://me@h/\namqp_password_file = open\n", "amqp_password_file", "only its owner"),
        ("[notify]\namqp_url = amqp://h/\nca_file = none\n", "ca_file", "there is no file"),
        ("[notify]\namqp_url = amqp://h/\namqp_exchange = ü\n", "amqp_exchange", "no name of an exchange"),
        ("[notify]\namqp_url = amqp://h/\namqp_routing_key = a.{b}\n", "amqp_routing_key", "is no routing key"),
        ("[notify]\namqp_url = amqp://h/\namqp_routing_key = {stream\n", "amqp_routing_key", "is no routing key"),
        ("[notify]\namqp_url = amqp://h/\namqp_routing_key = {stream!r}\n", "amqp_routing_key", "no fields but"),
        ("[notify]\namqp_url = amqp://h/\nevents = all\n", "events", '"all" is not known'),
    ],
)
def test_what_cannot_be_used_is_told(site: Site, text: str, key: str, words: str) -> None:
    private(site.conf / "open", 0o640)
    site.write_global(text)
    problem = site.problem()
    assert problem.key == key
    assert words in problem.message


def test_a_password_in_a_url_is_repeated_nowhere(site: Site) -> None:
    site.write_global("[notify]\nurl = http://me:s3cret@h/\n")
    problem = site.problem()
    assert "holds a login" in problem.message
    assert "s3cret" not in str(problem)


@pytest.mark.parametrize("url", ["amqp://me:s3cret@h/", "http://me:s3cret@h/", "amqp://me:s3cret@h:x/"])
def test_a_password_in_the_url_of_a_broker_is_repeated_nowhere(site: Site, url: str) -> None:
    site.write_global(f"[notify]\namqp_url = {url}\n")
    problem = site.problem()
    assert problem.key == "amqp_url"
    assert "s3cret" not in str(problem)
