"""The process `front`: listens, answers, and ends when it is told to. One event loop, no code of a transport.

Order of the end: no new connections; whoever waits is answered with what there is; downloads go on until the grace is
over; then everything is cut.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import signal
import socket
import ssl
from collections.abc import Callable

import uvicorn
from setproctitle import setproctitle
from starlette.applications import Starlette

from mistamover.config.serving import FrontSettings, JobSettings
from mistamover.config.settings import LINKS, Settings
from mistamover.errors import FrontError, MistamoverError
from mistamover.front.app import create
from mistamover.front.context import Front
from mistamover.jobs import bell
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.engine.announcing import Announcer, announcer_of
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Desk
from mistamover.jobs.transfer.places import Places
from mistamover.report import logs

logger = logging.getLogger(__name__)

#: Connections and requests at a time; more are answered with 503.
_MOST = 2_000

#: Bytes of a request's line and headers.
_LONGEST_HEAD = 64 << 10

#: Connections that the kernel keeps until we take them.
_BACKLOG = 512

#: The number of glibc for how many places there are that memory is taken from; see mallopt(3).
_M_ARENA_MAX = -8

#: Seconds of the grace for what is under way, however long the service may take to stop.
_LONGEST_GRACE = 30

#: Seconds for what announces jobs to end; it may be in the middle of an answer that does not come.
_SHORT = 2.0


def run(settings: Settings) -> int:
    """Given settings with jobs, listen until told to stop; return the exit status."""
    assert settings.jobs is not None
    setproctitle("mistamover: front")
    logs.start(settings.log, "front", to_stderr=True, debug=settings.debug)
    _keep_memory_together()
    _leave_signals_to_the_server()
    try:
        return _serve(settings, settings.jobs)
    except MistamoverError as error:
        logger.error("the front ends: %s", error)
    except Exception:
        logger.exception("the front ends because of an error")
    return 1


def _serve(settings: Settings, jobs: JobSettings) -> int:
    jobs.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Store(jobs.engine.database_url) as store:
        store.prepare()
        endpoints = Endpoints(jobs, store.endpoints)
        announcer = announcer_of(jobs.engine, store, endpoints)
        ring = _ring_of(jobs, announcer)
        desk = Desk(jobs, store, endpoints, ring)
        links = settings.state_dir / LINKS
        places = Places(endpoints, jobs.directory / "front", links, groups=jobs.engine.groups)
        tls = context_of(jobs.front)
        app = create(jobs, store, desk, places, ring)
        server = Server(app, tls=tls, grace=settings.stop_timeout)
        # Last: whoever connects is served.
        sockets = listen(jobs.front)
        logger.info("listening on %s", ", ".join(address(each, tls=tls is not None) for each in sockets))
        if announcer is not None:
            announcer.start()
        try:
            server.run(sockets=sockets)
        finally:
            places.close()
            if announcer is not None:
                announcer.end(_SHORT)
    logger.info("stopped")
    return 0 if server.started else 1


def _ring_of(jobs: JobSettings, announcer: Announcer | None) -> Callable[[], None]:
    """Given the settings, and what announces jobs if anything does, return what to call when there is a new one."""

    def ring() -> None:
        # Also with a broker: the worker beside us may have to let go of a job.
        bell.ring(jobs.directory)
        if announcer is not None:
            announcer.ring()

    return ring


class Server(uvicorn.Server):
    """The HTTP server of an application; also for tests, in a thread."""

    def __init__(self, app: Starlette, *, tls: ssl.SSLContext | None = None, grace: float = 1.0) -> None:
        """Given the application, TLS or None, and the seconds that what is under way may take at the end."""
        config = uvicorn.Config(
            app,
            http="auto",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST,
            backlog=_BACKLOG,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
            timeout_graceful_shutdown=max(1, int(min(grace, _LONGEST_GRACE))),
        )
        config.load()
        config.ssl = tls
        super().__init__(config)
        self._front: Front = app.state.front

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what waits, then what is under way."""
        self._front.feed.close()
        await super().shutdown(sockets)


def listen(settings: FrontSettings) -> list[socket.socket]:
    """Given the settings, return sockets that listen on every address of the host. Raise FrontError."""
    where = f"{settings.host}, port {settings.port}"
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except socket.gaierror as error:
        raise FrontError(f"cannot listen on {where}: {error.strerror}; see [front] host") from error
    made: list[socket.socket] = []
    for family, kind, protocol, _, place in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        made.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(place)
            sock.listen(_BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                # `localhost` is told to have an address of IPv6 where the kernel has none.
                made.remove(sock)
                sock.close()
                continue
            for each in made:
                each.close()
            raise FrontError(f"cannot listen on {where}: {_why(error, settings.port)}") from error
    if not made:
        raise FrontError(f"cannot listen on {where}: this host has no such address; see [front] host")
    return made


def context_of(settings: FrontSettings) -> ssl.SSLContext | None:
    """Given the settings, return what TLS needs, None without a certificate. Raise FrontError."""
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # With the empty password an encrypted key is an error; without one it would be asked for at a terminal.
        context.load_cert_chain(settings.certificate, settings.certificate_key, password="")
    except (OSError, ssl.SSLError) as error:
        key = settings.certificate_key or settings.certificate
        raise FrontError(
            f"the certificate {settings.certificate} with the key in {key} cannot be used: "
            f"{error.strerror or error}; both are PEM, belong together, and the key has no password"
        ) from error
    return context


def address(sock: socket.socket, *, tls: bool) -> str:
    """Given a socket that listens, return its URL."""
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http{'s' if tls else ''}://{shown}:{port}"


def _keep_memory_together() -> None:
    """Have all threads take their memory from the same places: each would keep what it needed for a download once."""
    with contextlib.suppress(AttributeError, OSError):
        # Not every C library has it, and nothing depends on it.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _leave_signals_to_the_server() -> None:
    """Have signals do nothing but what the server makes of them: it sends them again when it has ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ignored)


def _ignored(number: int, frame: object) -> None:
    return


def _why(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            "it is taken, by another front or by another program (`ss -ltnp` as root shows which): end that, or choose "
            "another port with [front] port"
        )
    if error.errno in (errno.EACCES, errno.EPERM) and port < 1024:
        return f"port {port} is for root alone: choose one above 1023, and let a proxy stand before it"
    return error.strerror or str(error)
