"""Alerts of a real agent: what the mail server and the program at the other end of a webhook receive, and only that."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agents import agent_of, kill, log_of, none_left, processes_of, said_by
from mistamover.alerts import state
from mistamover.alerts.incidents import Incident
from mistamover.report import alerting
from mistamover.testing.sshd import PrivateSshd
from receivers import Hook, Mailbox, hook_server, mail_server, silent_server
from support import Site, free_port, merged, wait_until, write_ini

#: Seconds: what an incident must last, here, and for how long news are gathered.
AFTER = 0.4
GATHER = 0.4

EMAIL = {
    "from": "agent@example.org",
    "recipient": "me@example.org, you@example.org",
    "subject": "Site",
    "threshold": "CRITICAL",
    "after": AFTER,
    "gather_time": GATHER,
}


def alerts_of(site: Site) -> psutil.Process | None:
    """Return the process of alerts."""
    for process in processes_of(site):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] == ["mistamover: alerts"]:
                return process
    return None


def alerts_pid(site: Site) -> int:
    process: psutil.Process = wait_until(lambda: alerts_of(site), 10, "alerts are told by a process")
    return process.pid


def known(site: Site) -> tuple[Incident, ...] | None:
    """Return the incidents that are remembered."""
    remembered = state.read(alerting.directory_of(site.state))
    return remembered.incidents if remembered else None


def quiet(seconds: float = AFTER + 2 * GATHER + 1.2) -> None:
    """Let pass what it would take to send one mail more.

    News are looked for twice in the time for which they are gathered, and the queue of mails twice a second.
    """
    threading.Event().wait(seconds)


def mails(box: Mailbox, number: int, timeout: float = 30) -> None:
    wait_until(lambda: len(box.mails) >= number, timeout, f"{number} mails: {box.subjects}")


@contextlib.contextmanager
def site_with_mail(
    scratch: Path, sshd: PrivateSshd, *, names: tuple[str, ...] = ("one",), **sections: dict[str, object]
) -> Iterator[tuple[Site, int]]:
    """Make a site whose mail goes to a port of the loopback; yield both."""
    port = free_port()
    everywhere = merged({"email": EMAIL}, sections, {"email": {"smarthost": f"127.0.0.1:{port}"}})
    site = Site(scratch, sshd, **everywhere)
    for name in names:
        site.add(name, data_stream={"settle_time": 0.2, "rescan_interval": 2}, outgoing={"retry_count": 1})
    yield site, port
    none_left(site)


def test_a_server_that_is_away_is_one_mail_and_its_return_another(scratch: Path, private_sshd: PrivateSshd) -> None:
    box = Mailbox()
    names = ("one", "two")
    with (
        # Both streams have to notice while news are gathered.
        site_with_mail(scratch, private_sshd, names=names, email={"gather_time": 2}) as (site, port),
        mail_server(port, box),
        agent_of(site) as agent,
    ):
        private_sshd.stop()
        for stream in site.streams.values():
            (stream.source / "f 1").write_text("content")
        mails(box, 1)
        quiet(AFTER + 4)
        assert len(box.mails) == 1
        private_sshd.start()
        agent.reload()
        mails(box, 2, timeout=60)
        quiet(AFTER + 4)
    opened, closed = box.mails
    assert len(box.mails) == 2
    assert opened["Subject"].startswith("Site: unreachable: 127.0.0.1 port ")
    assert opened["To"] == "me@example.org, you@example.org"
    text = opened.get_content()
    assert "Since 20" in text
    assert "Streams: one, two" in text
    assert "Concerned: 2 files" in text
    assert "one: f 1" in text
    assert "mistamover why says:" in text
    assert "WAIT: " in text
    assert f"kill -HUP $(cat {site.state}/mistamover.pid)" in text
    assert closed["Subject"].startswith("Site: over: unreachable: 127.0.0.1 port ")
    assert "It began at" in closed.get_content()
    assert len(set(box.ids)) == 2


def test_a_blip_is_no_mail(scratch: Path, private_sshd: PrivateSshd) -> None:
    box = Mailbox()
    email = {"email": {**EMAIL, "after": 6}}
    with site_with_mail(scratch, private_sshd) as (site, port), mail_server(port, box):
        site.write_global(**email)
        with agent_of(site) as agent:
            private_sshd.stop()
            (site.streams["one"].source / "f").write_text("content")
            wait_until(lambda: known(site), 15, "it is known that the target is unreachable")
            # Longer than it takes to tell what is to be told at once.
            quiet(3 * GATHER)
            private_sshd.start()
            agent.reload()
            wait_until(lambda: (site.streams["one"].target / "f").exists(), 20, "delivered")
            wait_until(lambda: known(site) == (), 20, "it is forgotten")
            quiet()
    assert box.mails == []


def quarantine_one(site: Site, name: str = "secret's") -> Path:
    """Drop what is not wanted, a link, and wait until it is set aside."""
    stream = site.streams["one"]
    (stream.source / name).symlink_to("nowhere")
    moved = stream.source / "quarantine" / name
    wait_until(lambda: moved.is_symlink(), 20, "it is in quarantine")
    return moved


def test_a_quarantine_is_told_with_the_command_that_retries(scratch: Path, sshd: PrivateSshd) -> None:
    box, hook = Mailbox(), Hook()
    with hook_server(hook) as url, site_with_mail(scratch, sshd) as (site, port), mail_server(port, box):
        site.write_global(data_stream={"symlinks": "quarantine"}, notify={"url": f"http://127.0.0.1:{url}/x"})
        with agent_of(site):
            moved = quarantine_one(site)
            mails(box, 1)
            text = box.mails[0].get_content()
            assert box.subjects == ["Site: quarantined: one (1)"]
            command = next(line for line in text.splitlines() if line.startswith("To have it tried again: "))
            assert "secret's: " in text
            assert "QUARANTINED" in text
            wait_until(lambda: hook.names("quarantined"), 10, "the quarantine was posted")
            moved.unlink()
            moved.write_text("now a file")
            program, *words = shlex.split(command.partition(": ")[2])
            assert program == "mistamover"
            assert site.run(*words).returncode == 0
            wait_until(lambda: (site.streams["one"].target / "secret's").exists(), 15, "it was delivered")
            mails(box, 2)
            wait_until(lambda: len(hook.events) == 4, 10, f"everything was posted: {hook.events}")
            quiet()
    assert box.subjects == ["Site: quarantined: one (1)", "Site: over: quarantined: one (1)"]
    kinds = sorted((each["event"], each.get("state")) for each in hook.events)
    assert kinds == [("delivered", None), ("incident", "opened"), ("incident", "over"), ("quarantined", None)]


def test_messages_of_the_logs_that_belong_to_no_incident_are_one_mail(scratch: Path, sshd: PrivateSshd) -> None:
    box = Mailbox()
    with site_with_mail(scratch, sshd) as (site, port), mail_server(port, box):
        site.write_global(email={"threshold": "ERROR"}, logging={"email_timer": 1})
        with agent_of(site):
            alerts_pid(site)
            with (site.logs / "links.log").open("a") as log:
                for number in range(20):
                    log.write(f"[2026-11-22 10:15:00] ERROR (pid=7) something {number}\n")
            mails(box, 1)
            quiet()
    assert box.subjects == ["Site: 20 messages in the log files"]
    assert "links.log ERROR (20 times, the last one:) something 19" in box.mails[0].get_content()


@pytest.mark.slow
def test_a_process_that_keeps_dying_and_a_broken_file_are_told(scratch: Path, sshd: PrivateSshd) -> None:
    box = Mailbox()
    # It has to be away for longer than an incident must last.
    pause = {"restart_pause": 1}
    with (
        site_with_mail(scratch, sshd, **{"global": pause}) as (site, port),
        mail_server(port, box),
        agent_of(site) as agent,
    ):
        write_ini(site.conf / "ds_one.ini", {"outgoing": {"retry_count": "many"}}, mode=0o400)
        mails(box, 1)
        site.add("one", data_stream={"settle_time": 0.2, "rescan_interval": 2}, outgoing={"retry_count": 1})
        mails(box, 2)
        first = len(box.mails)

        def die_again() -> bool:
            last = said_by(site, "one")
            if last is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if psutil.Process(last.pid).cmdline()[:1] != ["mistamover: alerts"]:
                        kill(last.pid)
            return len(box.mails) > first

        wait_until(die_again, 40, "a mail about the process", every=0.3)
        agent.reload()
        mails(box, 4, timeout=60)
        quiet()
    assert [subject.partition("/")[0] for subject in box.subjects[:2]] == [
        "Site: configuration: ",
        "Site: over: configuration: ",
    ]
    assert 'retry_count: "many"' in box.mails[0].get_content()
    assert box.subjects[2:] == ["Site: dying: one", "Site: over: dying: one"]


def test_mail_waits_for_its_server_and_status_says_so(scratch: Path, private_sshd: PrivateSshd) -> None:
    box = Mailbox()
    with site_with_mail(scratch, private_sshd) as (site, port), agent_of(site) as agent:
        stream = site.streams["one"]
        private_sshd.stop()
        (stream.source / "f").write_text("content")
        wait_until(lambda: "1 mail waits: " in site.ask("status").stdout, 30, "status speaks of the mail", every=0.1)
        said = site.ask("status").stdout
        assert f"alerts: 1 mail waits: the mail server 127.0.0.1:{port}: Connection refused" in said
        # Nothing waits for the mail.
        private_sshd.start()
        agent.reload()
        wait_until(lambda: (stream.target / "f").exists(), 60, "delivered")
        kill(alerts_pid(site))
        alerts_pid(site)
        wait_until(lambda: "2 mails wait: " in site.ask("status").stdout, 30, "both mails wait", every=0.1)
        assert site.ask("status").returncode == 1
        with mail_server(port, box):
            mails(box, 2)
            wait_until(lambda: "alerts" not in site.ask("status").stdout, 10, "status is quiet", every=0.1)
            quiet()
        assert site.ask("status").returncode == 0
    assert [subject.partition("127")[0] for subject in box.subjects] == [
        "Site: unreachable: ",
        "Site: over: unreachable: ",
    ]


def test_a_mail_server_that_hangs_holds_up_nothing(scratch: Path, sshd: PrivateSshd) -> None:
    hook = Hook()
    with hook_server(hook) as url, silent_server() as silent, site_with_mail(scratch, sshd) as (site, _):
        site.write_global(
            data_stream={"symlinks": "quarantine"},
            email={"smarthost": f"127.0.0.1:{silent}"},
            notify={"url": f"http://127.0.0.1:{url}/"},
        )
        with agent_of(site, stop=10):
            quarantine_one(site)
            wait_until(lambda: list((site.state / "alerts/mail").glob("*.json")), 15, "a mail waits")
            # Longer than it takes to begin with the mail; the server is given half a minute for its greeting.
            quiet(1.5)
            names = drop(site, "one", 1, 2, 3)
            wait_until(lambda: set(hook.names()) == set(names), 10, "the deliveries are posted")
            wait_until(lambda: any(each.get("state") == "opened" for each in hook.events), 10, "the incident is posted")
    assert len(list((site.state / "alerts/mail").glob("*.json"))) == 1


def drop(site: Site, name: str, *numbers: int) -> list[str]:
    names = [f"d/f{number:04d}" for number in numbers]
    (site.streams[name].source / "d").mkdir(exist_ok=True)
    for each in names:
        (site.streams[name].source / each).write_text(each)
    return names


def test_every_delivery_is_posted_in_order_also_through_kills_and_outages(scratch: Path, sshd: PrivateSshd) -> None:
    hook, port = Hook(), free_port()
    site = Site(scratch, sshd)
    site.add("one", data_stream={"settle_time": 0.2})
    before = drop(site, "one", *range(5))
    assert site.one_off().returncode == 0
    site.write_global(notify={"url": f"http://127.0.0.1:{port}/"})
    names: list[str] = []
    with agent_of(site):
        names += drop(site, "one", *range(10, 310))
        with hook_server(hook, port):
            wait_until(lambda: hook.messages, 20, "the first message")
            kill(alerts_pid(site))
            names += drop(site, "one", *range(310, 400))
            wait_until(lambda: set(hook.names()) >= set(names), 30, "all were posted")
            hook.status = 503
            names += drop(site, "one", *range(400, 420))
            refused = len(hook.raw)
            wait_until(lambda: len(hook.raw) > refused, 20, "a message is refused")
            wait_until(lambda: "notifications wait: " in site.ask("status").stdout, 10, "status says so", every=0.1)
            kill(alerts_pid(site))
            hook.status = 200
            wait_until(lambda: set(hook.names()) >= set(names), 30, "all were posted")
            quiet(2)
    assert not set(hook.names()) & set(before)
    delivered = [each for each in hook.events if each["event"] == "delivered"]
    # What was posted twice has the same id; once these are left out, everything came once.
    by_id = {each["id"]: each for each in delivered}
    assert sorted(each["name"] for each in by_id.values()) == sorted(names)
    numbers = [int(identity.split("-")[1]) for identity in by_id]
    assert numbers == sorted(numbers)
    assert all(each["stream"] == "one" and each["digest"] and each["size"] == 7 for each in delivered)
    none_left(site)


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_no_mail(scratch: Path, private_sshd: PrivateSshd) -> None:
    box = Mailbox()
    with site_with_mail(scratch, private_sshd) as (site, port), mail_server(port, box), agent_of(site) as agent:
        private_sshd.stop()
        (site.streams["one"].source / "f").write_text("content")
        pause = threading.Event()
        for _ in range(3):
            kill(alerts_pid(site))
            pause.wait(0.7)
        mails(box, 1)
        private_sshd.start()
        agent.reload()
        wait_until(lambda: (site.streams["one"].target / "f").exists(), 60, "delivered")
        for _ in range(2):
            kill(alerts_pid(site))
            pause.wait(0.9)
        wait_until(lambda: len(set(box.ids)) >= 2, 30, "the end is told")
        quiet()
    assert len(set(box.ids)) == 2, box.subjects
    by_id = dict(zip(box.ids, box.subjects, strict=True))
    assert [subject.partition(":")[2].partition(" 127")[0] for subject in by_id.values()] == [
        " unreachable:",
        " over: unreachable:",
    ]


def test_it_comes_and_goes_with_the_configuration(scratch: Path, sshd: PrivateSshd) -> None:
    with site_with_mail(scratch, sshd) as (site, _):
        site.write_global(email={"recipient": None})
        with agent_of(site) as agent:
            pid = said_by(site, "one").pid
            assert alerts_of(site) is None
            site.write_global(email={"recipient": "me@example.org"})
            alerts_pid(site)
            site.write_global(email={"recipient": None})
            wait_until(lambda: alerts_of(site) is None, 10, "the process of alerts has ended")
            assert said_by(site, "one").pid == pid
            assert agent.process.poll() is None
    assert "the process of alerts" not in log_of(site, "mistamover_ctl")


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("named", [True, False])
def test_a_trial_sends_one_of_each(scratch: Path, named: bool) -> None:
    box, hook, port = Mailbox(), Hook(), free_port()
    with hook_server(hook) as url, mail_server(port, box):
        site = Site(
            scratch,
            email={**EMAIL, "smarthost": "127.0.0.1", "port": port},
            notify={"url": f"http://127.0.0.1:{url}/"},
        )
        words = ["alert", "test", str(site.global_ini)] if named else ["alert", "test", "-c", str(site.global_ini)]
        done = site.run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("handed over") == 2
        hook.status = 500
        failed = site.run(*words)
    assert failed.returncode == 1
    assert "FAILED" in failed.stdout
    assert len(box.mails) == 2
    assert [each["event"] for each in hook.events] == ["test"]


def test_a_trial_without_anybody_to_tell_is_refused(scratch: Path) -> None:
    done = Site(scratch).run("alert", "test", str(scratch / "conf/global.ini"))
    assert done.returncode == 2
    assert "[email] recipient, [notify] url or [notify] amqp_url" in done.stderr
