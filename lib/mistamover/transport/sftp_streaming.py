"""SFTP for jobs: content that is in no file here, names that are taken only if they are free, and where links lead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mistamover.files.names import display
from mistamover.transport import sftp_wire as sftp
from mistamover.transport.far import Means, NameTaken, Pieces
from mistamover.transport.sftp_files import SftpFiles
from mistamover.transport.sftp_wire import SftpRefusal, take_text, text

_HARDLINK = b"hardlink@openssh.com"


class StreamingSftp(SftpFiles):
    """See `far.StreamingFiles`, `far.ExclusiveFiles` and `far.ResolvingFiles`."""

    def connect(self) -> Means:
        """See `FarFiles.connect`."""
        means = super().connect()
        # OpenSSH's plain renaming is by a hard link; what others make of it, nobody knows.
        return replace(means, pieces=True, exclusive=_HARDLINK in self._wire.extensions, resolves=True)

    def write_from(self, path: bytes, pieces: Pieces, size: int, told: Callable[[int], None]) -> None:
        """See `StreamingFiles.write_from`."""
        self._write(path, pieces.piece, size, 0, told)

    def read_from(self, path: bytes, offset: int) -> Iterator[bytes]:
        """See `StreamingFiles.read_from`."""
        return self._read(path, offset)

    def rename_new(self, old: bytes, new: bytes) -> None:
        """See `ExclusiveFiles.rename_new`: what plain SFTP calls renaming."""
        self._claim(sftp.RENAME, text(self._path(old)), text(self._path(new)), new=new)

    def hard_link(self, old: bytes, new: bytes) -> None:
        """See `ExclusiveFiles.hard_link`."""
        words = (text(_HARDLINK), text(self._path(old)), text(self._path(new)))
        self._claim(sftp.EXTENDED, *words, new=new)

    def _claim(self, kind: int, *words: bytes, new: bytes) -> None:
        with self._named(new):
            try:
                self._wire.ask(kind, *words)
            except SftpRefusal:
                # The protocol has no word for that.
                if self._attributes(sftp.LSTAT, self._path(new)) is None:
                    raise
                raise NameTaken(f"there is something of the name {display(new)} already") from None

    def real_path(self, path: bytes) -> bytes | None:
        """See `ResolvingFiles.real_path`."""
        # A server may also answer for what is not there.
        if self._attributes(sftp.STAT, self._path(path)) is None:
            return None
        with self._named(path):
            body = self._wire.ask(sftp.REALPATH, text(self._path(path))).body
        return take_text(body[4:])[0]
