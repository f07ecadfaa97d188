"""Mail to a real SMTP server and messages to a real HTTP server."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from pathlib import Path

import pytest

from mistamover.alerts.mail import Mail, send, send_all
from mistamover.alerts.queue import Queue
from mistamover.alerts.webhook import Webhook
from mistamover.config.access import Tls
from mistamover.config.settings import MailSettings, NotifySettings
from mistamover.errors import AlertError, SecretError
from receivers import Hook, Mailbox, certificate, hook_server, mail_server, silent_server
from support import free_port


def settings(port: int) -> MailSettings:
    return MailSettings(
        sender="MiStaMover <agent@example.org>",
        recipients=("a@example.org", "b@example.org"),
        subject="Site",
        host="127.0.0.1",
        port=port,
        tls=Tls.NONE,
        ca_file=None,
        login_file=None,
    )


def mail(number: int = 0) -> Mail:
    return Mail(id=f"ab{number}", subject=f"subject {number}", body="Größe \udcff\n", created=1.0)


def put(queue: Queue, *numbers: int) -> None:
    for number in numbers:
        queue.put(mail(number).id, mail(number).as_bytes())


def test_a_mail_arrives_with_all_it_needs(tmp_path: Path) -> None:
    box, port = Mailbox(), free_port()
    with mail_server(port, box):
        send(settings(port), mail())
    (received,) = box.mails
    assert box.recipients == [["a@example.org", "b@example.org"]]
    assert received["Subject"] == "Site: subject 0"
    assert received["Message-ID"].startswith("<ab0@")
    assert received["Auto-Submitted"] == "auto-generated"
    assert received.get_content().strip() == "Größe \\udcff"


def test_a_subject_with_a_line_break_adds_no_header() -> None:
    box, port = Mailbox(), free_port()
    with mail_server(port, box):
        send(settings(port), replace(mail(), subject="a\r\nBcc: x@example.org"))
    assert box.mails[0]["Bcc"] is None
    assert "\\nBcc" in box.subjects[0]


def test_what_waits_goes_in_order_and_what_was_dropped_is_told(tmp_path: Path) -> None:
    box, port, queue = Mailbox(), free_port(), Queue(tmp_path, most=2)
    put(queue, 1, 2, 3)
    with pytest.raises(AlertError, match=r"127\.0\.0\.1:\d+: Connection refused"):
        send_all(settings(port), queue)
    with mail_server(port, box):
        send_all(settings(port), queue)
    assert box.subjects == ["Site: subject 2", "Site: subject 3"]
    assert "Before this mail 1 could not be kept" in box.mails[0].get_content()
    assert "could not be kept" not in box.mails[1].get_content()
    assert (queue.waiting(), queue.dropped) == ([], 0)


def test_a_mail_that_is_refused_stays(tmp_path: Path) -> None:
    box, port, queue = Mailbox(), free_port(), Queue(tmp_path)
    put(queue, 1, 2)
    box.answer = "554 no\x07 thanks"
    with mail_server(port, box):
        with pytest.raises(AlertError, match=r"the mail is refused: 554 no\\x07 thanks"):
            send_all(settings(port), queue)
        assert len(queue.waiting()) == 2
        box.answer = "250 OK"
        send_all(settings(port), queue)
    assert box.ids == [f"<ab1@{box.ids[0].partition('@')[2]}", f"<ab2@{box.ids[0].partition('@')[2]}"]


def test_a_server_that_hangs_is_given_up(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    put(queue, 1)
    with silent_server() as port, pytest.raises(AlertError, match="no answer in time"):
        send_all(settings(port), queue, timeout=0.3)
    assert len(queue.waiting()) == 1


# The server cannot know that its whole connection is encrypted.
@pytest.mark.filterwarnings("ignore:Requiring AUTH")
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
def test_encrypted_with_a_login(tmp_path: Path, tls: Tls) -> None:
    ca_file, context = certificate(tmp_path)
    login = tmp_path / "login"
    login.write_text("robot\nsecret\n")
    login.chmod(0o600)
    box, port = Mailbox(), free_port()
    options = {"ssl_context": context} if tls is Tls.TLS else {"tls_context": context, "require_starttls": True}
    with mail_server(port, box, auth_required=True, auth_require_tls=tls is Tls.STARTTLS, **options):
        good = replace(settings(port), tls=tls, ca_file=ca_file, login_file=login)
        send(good, mail())
        assert box.logins == [(b"robot", b"secret")]
        with pytest.raises(AlertError, match=r"(?i)certificate"):
            send(replace(good, ca_file=None), mail())
        login.write_text("robot\nwrong-secret\n")
        with pytest.raises(AlertError, match="refuses: 535") as caught:
            send(good, mail())
        assert "wrong-secret" not in str(caught.value)
    assert len(box.mails) == 1


def test_no_login_goes_out_where_encryption_was_demanded_and_there_is_none(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("robot\nsecret\n")
    login.chmod(0o600)
    box, port = Mailbox(), free_port()
    with mail_server(port, box), pytest.raises(AlertError, match="STARTTLS"):
        send(replace(settings(port), tls=Tls.STARTTLS, login_file=login), mail())
    assert (box.logins, box.mails) == ([], [])


@pytest.mark.parametrize(("mode", "text", "words"), [(0o640, "a\nb\n", "read by others"), (0o600, "a\n", "two lines")])
def test_a_login_file_that_is_no_good_is_refused(tmp_path: Path, mode: int, text: str, words: str) -> None:
    login = tmp_path / "login"
    login.write_text(text)
    login.chmod(mode)
    with pytest.raises(SecretError, match=words):
        send(replace(settings(1), tls=Tls.TLS, login_file=login), mail())


def test_a_message_is_signed(tmp_path: Path) -> None:
    secret, hook = tmp_path / "secret", Hook()
    secret.write_text("s3cret\n")
    secret.chmod(0o400)
    with hook_server(hook) as port:
        notify = NotifySettings(url=f"http://127.0.0.1:{port}/x?y=1", secret_file=secret, ca_file=None, events=())
        Webhook(notify).post([{"id": "1"}, {"id": "2"}], 12.5)
        Webhook(notify).post([{"id": "1"}, {"id": "2"}], 13.5)
    (body, headers), (_, again) = hook.raw
    expected = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-MiStaMover-Signature"] == expected
    assert hook.messages[0]["sent"] == 12.5
    assert headers["X-MiStaMover-Id"] == again["X-MiStaMover-Id"] == hook.messages[0]["id"]


@pytest.mark.parametrize(("status", "words"), [(302, "redirects are not followed"), (500, "answers 500"), (410, "410")])
def test_only_a_good_answer_counts(status: int, words: str) -> None:
    hook, other = Hook(), Hook()
    with hook_server(other) as elsewhere, hook_server(hook) as port:
        hook.status, hook.headers = status, {"Location": f"http://127.0.0.1:{elsewhere}/"}
        notify = NotifySettings(url=f"http://127.0.0.1:{port}", secret_file=None, ca_file=None, events=())
        with pytest.raises(AlertError, match=words):
            Webhook(notify).post([{"id": "1"}], 1.0)
    assert (len(hook.raw), other.raw) == (1, [])
    assert "X-MiStaMover-Signature" not in hook.raw[0][1]


def test_a_receiver_that_hangs_is_given_up() -> None:
    with silent_server() as port:
        notify = NotifySettings(url=f"http://127.0.0.1:{port}", secret_file=None, ca_file=None, events=())
        with pytest.raises(AlertError, match="timed out"):
            Webhook(notify, timeout=0.3).post([{"id": "1"}], 1.0)
