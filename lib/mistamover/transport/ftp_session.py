"""One FTP session: commands and their answers, data connections, TLS; errors become ours here.

The library reads and writes text; with Latin-1 each byte of a name is one character of it.
"""

from __future__ import annotations

import contextlib
import ftplib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

from mistamover.config.access import FtpAccess, Tls
from mistamover.errors import LinkError, SecretError, TargetError
from mistamover.files.names import display
from mistamover.files.private import read_private
from mistamover.transport.far import FarRefusal

#: Seconds for one answer of the server: a disk that is busy may take long to write.
_ANSWER = 120.0

#: Seconds for the reason why the server has hung up in the middle of data: not every one tells it.
_REASON = 15.0

#: Seconds for the polite end of an encrypted data connection, which some servers do not know.
_GOODBYE = 5.0

_ENCODING = "latin-1"

#: The control connection reads 255 as the beginning of a command of its own (telnet), and a line's end as the end.
_IMPOSSIBLE = re.compile(rb"[\r\n\0\xff]")

_FULL = re.compile("no space|disk full|quota|insufficient|out of space|exceeded storage", re.IGNORECASE)
_GONE_AWAY, _NO_DATA, _BROKEN_OFF, _FULL_CODES = 421, 425, 426, (452, 552)

#: The command is not known, or not for these parameters.
UNKNOWN = (500, 501, 502, 504)


def _nothing() -> None:
    """What is done meanwhile where nobody wants to know."""


class Refused(FarRefusal):
    """The server refuses a command; `code` is FTP's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class FtpSession:
    """A control connection that has logged in, with at most one data connection at a time."""

    def __init__(self, host: str, access: FtpAccess) -> None:
        """Given the host and how to get in, do nothing yet."""
        self._host = host
        self._access = access
        self._ftp: _Ftp | None = None
        self._data: Data | None = None
        self._cut = False

    def connect(self) -> None:
        """Connect and log in. Raise LinkError."""
        access = self._access
        who = f"{access.username}@{self._host}"
        try:
            self._ftp = ftp = self._library()
            ftp.connect(self._host, access.port, timeout=access.connect_timeout)
            assert ftp.sock is not None
            # Nothing else is said on it while a large file goes over the other connection.
            ftp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            ftp.timeout = _ANSWER
            ftp.set_pasv(access.passive)
            ftp.login(access.username, self._password())
            if isinstance(ftp, ftplib.FTP_TLS):
                ftp.prot_p()
            ftp.voidcmd("TYPE I")
        except SecretError as error:
            raise LinkError(f"cannot log in as {who}: {error}") from None
        except ssl.SSLCertVerificationError as error:
            hint = "name its authority in ca_file if it is one of your own"
            raise LinkError(f"{self._host} is not trusted: {error.verify_message} ({hint})") from None
        except ftplib.Error as error:
            raise LinkError(f"cannot log in as {who}: {self._discreet(error)}{_login_hint(str(error))}") from None
        except (OSError, EOFError) as error:
            raise LinkError(f"cannot connect to {self._host}: {_words(error)}") from None

    @property
    def encryption(self) -> str:
        """The version of TLS in use, or ""."""
        sock = self._live().sock
        return sock.version() or "" if isinstance(sock, ssl.SSLSocket) else ""

    def ask(self, verb: str, path: bytes | None = None) -> str:
        """Given a command and perhaps a path, return the answer. Raise LinkError, TargetError or FarRefusal."""
        with self._ours():
            return self._live().sendcmd(_line(verb, path))

    def begin(self, verb: str, path: bytes | None = None, offset: int = 0) -> Data:
        """Given a command that moves data, a path and a position, return the data connection.

        Raise LinkError, TargetError or FarRefusal.
        """
        with self._ours():
            ftp = self._live()
            sock, _ = ftp.ntransfercmd(_line(verb, path), rest=str(offset) if offset else None)
        sock.settimeout(1.0)
        self._data = Data(self, sock)
        return self._data

    def end_of_data(self, patience: float = _ANSWER, meanwhile: Callable[[], None] = _nothing) -> None:
        """Take the server's word on data that were moved, for which it has so many seconds; see `Data.send`.

        Raise LinkError, TargetError or FarRefusal.
        """
        if self._data is None:
            return
        self._data = None
        with self._ours():
            ftp = self._live()
            ftp.patience, ftp.meanwhile = patience, meanwhile
            try:
                ftp.voidresp()
            except (ftplib.error_temp, ftplib.error_perm, ftplib.error_reply):
                raise
            except BaseException:
                # Its answer would be taken for that to the next question.
                self._cut = True
                raise
            finally:
                ftp.patience, ftp.meanwhile = _ANSWER, _nothing

    def abort(self) -> None:
        """Cut it at once, from any thread: whoever waits gets a LinkError."""
        self._cut = True
        ftp, data = self._ftp, self._data
        for sock in (ftp.sock if ftp is not None else None, data.sock if data is not None else None):
            if sock is not None:
                cut(sock)

    def close(self) -> None:
        """End it; never raises."""
        ftp, self._ftp = self._ftp, None
        if self._data is not None:
            self._data.sock.close()
        if ftp is None or ftp.sock is None:
            return
        with contextlib.suppress(OSError, EOFError, ftplib.Error):
            ftp.patience = _GOODBYE
            if not self._cut:
                ftp.quit()
        ftp.close()

    # -- inside -------------------------------------------------------------------------------

    def _live(self) -> _Ftp:
        if self._ftp is None or self._ftp.sock is None or self._cut:
            raise LinkError(f"not connected to {self._host}")
        return self._ftp

    def _library(self) -> _Ftp:
        access = self._access
        if access.tls is Tls.NONE:
            return _Ftp(encoding=_ENCODING)
        try:
            context = ssl.create_default_context(cafile=access.ca_file)
        except OSError as error:
            raise LinkError(f"{access.ca_file} cannot be used: {error.strerror or error}") from None
        return _Tls(context=context, implicit=access.tls is Tls.TLS)

    def _password(self) -> str:
        access = self._access
        if access.password_file is not None:
            lines = read_private(access.password_file)
            if not lines:
                raise SecretError(f"{access.password_file} is empty: its first line must be the password")
            return lines[0].encode().decode(_ENCODING)
        return (access.password or "").encode().decode(_ENCODING)

    def _discreet(self, error: Exception) -> str:
        """Return the server's words without the password, which it may have repeated."""
        text = str(error)
        with contextlib.suppress(SecretError):
            password = self._password()
            text = text.replace(password, "***") if password else text
        return _as_line(text)

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            yield
        except (ftplib.error_temp, ftplib.error_perm, ftplib.error_reply) as error:
            raise self._meaning(self._discreet(error)) from None
        except ftplib.Error as error:
            raise LinkError(f"{self._host} does not speak FTP as it should: {self._discreet(error)}") from None
        except (OSError, EOFError) as error:
            raise LinkError(f"the connection to {self._host} was lost: {_words(error)}") from None

    def _meaning(self, said: str) -> Exception:
        """Given the server's refusal, return what it means: about the connection, the target or one name."""
        code = int(said[:3]) if said[:3].isdigit() else 0
        if code in _FULL_CODES or (code in (_BROKEN_OFF, 450, 451, 550, 553) and _FULL.search(said)):
            return TargetError(f"{self._host} has no room: {said}")
        if code in (_NO_DATA, _BROKEN_OFF):
            # It lives, and has its reasons: this is not the way to it that is broken.
            return TargetError(f"{self._host} breaks the transfer off: {said}")
        if code == _GONE_AWAY:
            return LinkError(f"{self._host} ends the connection: {said}")
        if code == 530:
            return LinkError(f"{self._host} does not let us in: {said}")
        return Refused(code, said)


class Data:
    """One data connection."""

    def __init__(self, session: FtpSession, sock: socket.socket) -> None:
        self._session = session
        self.sock = sock

    def send(self, piece: bytes, meanwhile: Callable[[], None]) -> None:
        """Given some data, send all of it, and call `meanwhile` once a second while nothing moves.

        Raise LinkError, TargetError, FarRefusal, and what `meanwhile` raises.
        """
        view = memoryview(piece)
        deadline = time.monotonic() + _ANSWER
        while view:
            sent = self._send(view)
            if sent:
                view = view[sent:]
                deadline = time.monotonic() + _ANSWER
            elif time.monotonic() >= deadline:
                raise LinkError(f"nothing was taken in {_ANSWER:g} s")
            else:
                meanwhile()

    def _send(self, view: memoryview) -> int:
        """Send what is taken within a second; return how much."""
        try:
            return self.sock.send(view)
        except TimeoutError:
            return 0
        except OSError as error:
            # The server hangs up before it says why.
            self.sock.close()
            self._session.end_of_data(_REASON)
            raise LinkError(f"the data connection broke: {_words(error)}") from None

    def receive(self) -> bytes:
        """Return more data, nothing at their end. Raise LinkError."""
        try:
            self.sock.settimeout(_ANSWER)
            return self.sock.recv(1 << 18)
        except OSError as error:
            raise LinkError(f"the data connection broke: {_words(error)}") from None

    def finish(self, meanwhile: Callable[[], None] = _nothing) -> None:
        """End it in order, and hear whether all went well; see `send`. Raise LinkError, TargetError or FarRefusal."""
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.sock.settimeout(_GOODBYE)
                self.sock = self.sock.unwrap()
        self.sock.close()
        self._session.end_of_data(meanwhile=meanwhile)

    def abandon(self) -> None:
        """End it in the middle; what the server says to that is of no interest."""
        self.sock.close()
        with contextlib.suppress(LinkError, TargetError):
            self._session.end_of_data(_GOODBYE)


class _Ftp(ftplib.FTP):
    """The library's, with lines that are waited for second by second, and that end at the line's end only."""

    patience = _ANSWER
    meanwhile: Callable[[], None] = staticmethod(_nothing)
    received = b""

    def getline(self) -> str:
        deadline = time.monotonic() + self.patience
        while b"\n" not in self.received:
            if len(self.received) > self.maxline:
                raise ftplib.Error("a line without end")  # noqa: S321
            self.received += self._more(deadline)
        line, _, self.received = self.received.partition(b"\n")
        return line.removesuffix(b"\r").decode(_ENCODING)

    def _more(self, deadline: float) -> bytes:
        assert self.sock is not None
        self.sock.settimeout(1.0)
        while True:
            try:
                more = self.sock.recv(4096)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                self.meanwhile()
                continue
            if not more:
                raise EOFError
            return more

    def putline(self, line: str) -> None:
        assert self.sock is not None
        self.sock.settimeout(_ANSWER)
        super().putline(line)


class _Tls(_Ftp, ftplib.FTP_TLS):
    """The library's, able to begin encrypted, and with one TLS session for both connections, as many servers demand."""

    def __init__(self, *, context: ssl.SSLContext, implicit: bool) -> None:
        super().__init__(context=context, encoding=_ENCODING)
        self._implicit = implicit

    def connect(self, host: str = "", port: int = 0, timeout: Any = -999, source_address: Any = None) -> str:
        if not self._implicit:
            return super().connect(host, port, timeout, source_address)
        self.host, self.port = host, port
        raw = socket.create_connection((host, port), timeout)
        self.af = raw.family
        self.sock = self.context.wrap_socket(raw, server_hostname=host)
        self.file = self.sock.makefile("r", encoding=_ENCODING)
        self.welcome = self.getresp()
        return self.welcome

    def auth(self) -> str:
        answer = super().auth()
        # What somebody put behind the answer while it was in the clear is not the server's.
        self.received = b""
        return answer

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        sock, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321
        try:
            assert isinstance(self.sock, ssl.SSLSocket)
            return self.context.wrap_socket(sock, server_hostname=self.host, session=self.sock.session), size
        except BaseException:
            sock.close()
            raise


def cut(sock: socket.socket) -> None:
    """Given a socket that another thread uses, have it end; its own method would forget its encryption."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _line(verb: str, path: bytes | None) -> str:
    if path is None:
        return verb
    if _IMPOSSIBLE.search(path):
        raise FarRefusal(f"{display(path)}: FTP cannot carry a name with a line end, a NUL or the byte 255")
    return f"{verb} {path.decode(_ENCODING)}"


def _login_hint(said: str) -> str:
    if said.startswith("530"):
        return " (check username and password)"
    if said.startswith(("500", "502", "504", "534")):
        return " (does the server have TLS?)"
    return ""


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, EOFError):
        return "the server hung up"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _as_line(text: str) -> str:
    return " ".join(text.encode(_ENCODING, "replace").decode("utf-8", "backslashreplace").split())[:300]
