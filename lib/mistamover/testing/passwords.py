"""An ssh server on the loopback that takes a password and gives nothing but plain SFTP: paramiko's, for tests.

It is what OpenSSH's server is not: without any extension, and without accounts of the system.  Never import this from
production code.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import paramiko
from paramiko import SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface, common
from paramiko.sftp import SFTP_FAILURE, SFTP_OK

USER: Final = "mover"
PASSWORD: Final = "s3cret of ssh"  # noqa: S105


class PasswordServer:
    """The server, in threads of this process, between `with` and its end."""

    def __init__(self, directory: Path) -> None:
        """Given a directory for its files, listen."""
        self._key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        self.ssh_config = directory / "ssh_config"
        known = directory / "known_hosts"
        known.write_text(f"[{self.host}]:{self.port} {self._key.get_name()} {self._key.get_base64()}\n")
        self.ssh_config.write_text(
            f"Host *\n  User {USER}\n  Port {self.port}\n  UserKnownHostsFile {known}\n"
            "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking ask\n"
            "  IdentityFile none\n  IdentityAgent none\n  LogLevel ERROR\n"
        )
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        """Start and return the server."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it with all its connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for transport in self._transports:
            transport.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._key)
            transport.set_subsystem_handler("sftp", SFTPServer, _Files)
            self._transports.append(transport)
            try:
                transport.start_server(server=_Login())
            except (paramiko.SSHException, EOFError, OSError):
                # A client that does not know us has gone.
                continue


class _Login(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (USER, PASSWORD)
        return common.AUTH_SUCCESSFUL if right else common.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED if kind == "session" else common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


class _Files(SFTPServerInterface):
    """This machine's files, by the commands of the protocol alone."""

    def stat(self, path: str) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(os.stat(path))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def lstat(self, path: str) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(os.lstat(path))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        try:
            return [SFTPAttributes.from_stat(entry.stat(), entry.name) for entry in os.scandir(path)]
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle | int:
        try:
            file = os.fdopen(os.open(path, flags, 0o666), "wb" if flags & os.O_WRONLY else "rb", buffering=0)
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)
        handle = SFTPHandle(flags)
        handle.readfile = handle.writefile = file  # type: ignore[attr-defined]
        return handle

    def remove(self, path: str) -> int:
        return _done(lambda: os.remove(path))

    def rename(self, oldpath: str, newpath: str) -> int:
        if os.path.lexists(newpath):
            return SFTP_FAILURE
        return _done(lambda: os.rename(oldpath, newpath))

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:
        return _done(lambda: os.mkdir(path))

    def rmdir(self, path: str) -> int:
        return _done(lambda: os.rmdir(path))

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        return _done(lambda: SFTPServer.set_file_attr(path, attr))


def _done(act: Callable[[], None]) -> int:
    try:
        act()
    except OSError as error:
        return SFTPServer.convert_errno(error.errno or 0)
    return SFTP_OK
