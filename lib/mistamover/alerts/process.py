"""The process of alerts: looks at what the others keep on disk, finds out what is to be told, and has it handed over.

Nothing waits for it: a stream does not know that it exists.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from setproctitle import setproctitle

from mistamover.alerts import digest, events, mail, state, tail, words
from mistamover.alerts.courier import Courier
from mistamover.alerts.explain import explain
from mistamover.alerts.incidents import Incident, Kind, News, Rules, incidents
from mistamover.alerts.look import Looker
from mistamover.alerts.notifier import Notifier
from mistamover.alerts.queue import Queue
from mistamover.alerts.state import Outgoing, State
from mistamover.alerts.ways import AMQP, NAMES, WEBHOOK, ways
from mistamover.config.settings import AlertSettings, Settings
from mistamover.files.durable import sync_directory
from mistamover.report import alerting, logs
from mistamover.report.alerting import AlertReport
from mistamover.report.snapshot import LOCK_FILE, lock

logger = logging.getLogger(__name__)

#: Longest time between two looks, in seconds.
_LOOK = 1.0

#: Longest pauses, in seconds, between attempts to send mail and to tell programs.
_LONGEST_MAIL = 300.0
_LONGEST_NOTIFY = 60.0

#: Seconds for which it is remembered that an incident concerned a stream.
_REMEMBERED = 86400.0


def run(settings: Settings, began: float) -> int:
    """Given settings with alerts, and since when they hold, look and tell until SIGTERM; return the exit status."""
    setproctitle("mistamover: alerts")
    logs.start(settings.log, "alerts", to_stderr=False, debug=settings.debug)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if lock(alerting.directory_of(settings.state_dir) / LOCK_FILE) is None:
            logger.error("the process of alerts of another master has not ended yet")
            return 1
        alerts = Alerts(settings, began)
        alerts.start()
        while not stop.wait(alerts.pause):
            alerts.look(time.time())
    except Exception:
        logger.exception("the process of alerts ends because of an error")
        return 1
    return 0


class Alerts:
    """What is known and what is to be told, for one configuration."""

    def __init__(self, settings: Settings, began: float) -> None:
        """Given settings with alerts, and since when they hold, go on from what is remembered. Raise OSError."""
        assert settings.alerts is not None
        self._settings = settings
        self._alerts: AlertSettings = settings.alerts
        self._directory = alerting.directory_of(settings.state_dir)
        self._rules = Rules(
            after=self._alerts.after, remind_interval=self._alerts.remind_interval, gather=self._alerts.gather_time
        )
        self._logs = (settings.log.directory, *(stream.log.directory for stream in settings.streams))
        self._looker = Looker(settings, os.getppid())
        self._ways = ways(self._alerts)
        self._queues = {name: Queue(self._directory / name) for name in ("mail", *NAMES)}
        # The directories themselves must outlive a crash as what is in them does.
        sync_directory(self._directory)
        self._couriers = self._make_couriers(began)
        self._state = state.read(self._directory) or State(positions=tail.at_the_end(self._logs))
        self._said: AlertReport | None = None
        self._unwritten = ""

    @property
    def pause(self) -> float:
        """Seconds between two looks: what is gathered for a shorter time is looked for more often."""
        return min(_LOOK, self._rules.gather / 2)

    def start(self) -> None:
        """Begin to hand over what waits."""
        for courier in self._couriers.values():
            courier.start()

    def look(self, now: float) -> None:
        """Given the time, look once, and put what is to be told into the queues."""
        after = self._seen(now)
        try:
            self._keep(after)
            self._report()
            self._unwritten = ""
        except OSError as error:
            # The disk may be full.  What was not kept is found again at the next look.
            if str(error) != self._unwritten:
                logger.error("cannot write below %s: %s", self._directory, error)
            self._unwritten = str(error)

    def _make_couriers(self, began: float) -> dict[str, Courier]:
        couriers: dict[str, Courier] = {}
        if self._alerts.mail is not None:
            work = partial(mail.send_all, self._alerts.mail, self._queues["mail"])
            couriers["mail"] = Courier("mail", work, longest_pause=_LONGEST_MAIL)
        for way in self._ways:
            positions, queue = self._directory / way.positions, self._queues[way.name]
            notifier = Notifier(way.poster, way.events, self._settings.streams, positions, queue, began)
            couriers[way.name] = Courier(way.name, notifier.work, longest_pause=_LONGEST_NOTIFY)
        return couriers

    # -- what is to be told -------------------------------------------------------------------

    def _seen(self, now: float) -> State:
        """Given the time, return what is to be remembered after a look, what is to be told included."""
        before = self._state
        known, news = incidents(before.incidents, self._looker.conditions(), now, self._rules)
        positions, collection, due = before.positions, before.collection, digest.Collection()
        concerned = _concerned(before.concerned, known, now)
        if self._alerts.mail is not None:
            positions, lines = tail.follow(self._logs, before.positions, self._alerts.threshold)
            collection, due = digest.due(
                digest.collect(collection, lines, now),
                concerned | _alive(known, now),
                now,
                collect_time=self._alerts.collect_time,
                remind_interval=self._alerts.remind_interval,
            )
        return State(
            incidents=known,
            collection=collection,
            concerned=concerned,
            positions=positions,
            outgoing=(*before.outgoing, *self._outgoing(news, due, now)),
        )

    def _outgoing(self, news: News, due: digest.Collection, now: float) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        host = socket.gethostname()
        if self._alerts.mail is not None:
            mails = []
            if news:
                mails.append(words.of_incidents(news, partial(explain, self._settings.file), now, host))
            if due.messages:
                mails.append(words.of_messages(due, now, host))
            outgoing += [Outgoing(queue="mail", name=each.id, content=each.as_bytes().decode()) for each in mails]
        for way in self._ways:
            if "incident" in way.events:
                told = map(events.of_incident, (*news.opened, *news.closed))
                outgoing += [Outgoing(queue=way.name, name=each["id"], content=json.dumps(each)) for each in told]
        for incident in (*news.opened, *news.reminded, *news.closed):
            over = " is over" if incident.gone is not None else ""
            logger.info("incident %s (%s)%s", incident.id, incident.condition.key, over)
        return outgoing

    # -- the disk -----------------------------------------------------------------------------

    def _keep(self, after: State) -> None:
        """Remember it, and put what is to be told into the queues; in this order. Raise OSError."""
        told = [each.id for each in after.incidents] != [each.id for each in self._state.incidents]
        if after != self._state:
            state.write(self._directory, after, durable=told or bool(after.outgoing))
            self._state = after
        if after.outgoing:
            for each in after.outgoing:
                self._queues[each.queue].put(each.name, each.content.encode())
            after = replace(after, outgoing=())
            state.write(self._directory, after, durable=True)
            self._state = after

    def _report(self) -> None:
        troubles = {name: courier.trouble for name, courier in self._couriers.items()}
        report = AlertReport(
            mails=len(self._queues["mail"].waiting()) if "mail" in troubles else 0,
            dropped=self._queues["mail"].dropped,
            mail_trouble=troubles.get("mail", ""),
            notify_trouble=troubles.get(WEBHOOK, ""),
            amqp_trouble=troubles.get(AMQP, ""),
        )
        if report != self._said:
            alerting.write(self._settings.state_dir, report)
            self._said = report


def _concerned(before: Mapping[str, float], known: Iterable[Incident], now: float) -> dict[str, float]:
    """When an incident that is away last concerned whom."""
    gone = {owner: each.gone for each in known if each.gone is not None for owner in _owners(each)}
    return {owner: when for owner, when in {**before, **gone}.items() if now - when < _REMEMBERED}


def _alive(known: Iterable[Incident], now: float) -> dict[str, float]:
    return {owner: now for each in known if each.gone is None for owner in _owners(each)}


def _owners(incident: Incident) -> tuple[str, ...]:
    if incident.condition.kind is Kind.CONFIGURATION:
        return (tail.CONFIGURATION,)
    return incident.condition.streams
