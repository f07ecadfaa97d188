"""How ssh is called to log in to one target: a value that can travel to the process that keeps the connection."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from mistamover.config.settings import TargetSettings
from mistamover.links import ciphers

#: ssh gives a dead peer up after 3 unanswered questions of 15 s; so no wait for one is longer than that.
_KEEP_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")

#: Keys are tried before; a wrong password is not tried again and again, which locks an account.
_ONE_PASSWORD = ("-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1")

#: Seconds that the login may take beyond twice the connect timeout, which bounds the TCP connection only.
_LOGIN_SECONDS = 5.0

_HINTS = (
    ("Host key verification failed", "log in once by hand, or add the key with ssh-keyscan, to make the host known"),
    ("Permission denied", "check username and identity_file, and that the target's authorized_keys holds the key"),
    ("Could not resolve hostname", "check target_host"),
    ("Connection refused", "is sshd running there, and is the port right?"),
    ("timed out", "is the host up, and does a firewall let ssh through?"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One way to log in; two targets with equal ones can share a connection."""

    program: tuple[str, ...]
    options: tuple[str, ...]
    configuration: str | None
    """Text of the configuration file to use; None leaves it to the options."""
    host: str
    who: str
    """User and host, for messages."""
    patience: float
    """Seconds after which a login that has not come to anything has failed."""
    password_file: str | None = None
    """Where a password is, if one may be used."""

    @classmethod
    def of(cls, target: TargetSettings) -> Login:
        """Given a target's settings, return how to log in there."""
        settings = target.ssh
        asks = settings.password_file is not None
        options = [*_KEEP_ALIVE, *(_ONE_PASSWORD if asks else ("-o", "BatchMode=yes"))]
        options += ["-o", f"ConnectTimeout={max(1, round(settings.connect_timeout))}"]
        options += ["-o", "ControlPersist=no", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected"]
        options += ["-o", "ForwardX11=no", "-o", "ForwardAgent=no", "-o", "ClearAllForwardings=yes"]
        configuration = None
        if settings.ciphers is not None:
            options += ["-o", f"Ciphers={settings.ciphers}"]
        elif not any(word.startswith("-F") for word in settings.ssh):
            configuration = ciphers.configuration(settings.ssh[0], settings.ssh_config)
        if configuration is None and settings.ssh_config is not None:
            options += ["-F", str(settings.ssh_config)]
        if settings.identity_file is not None:
            options += ["-i", str(settings.identity_file), "-o", "IdentitiesOnly=yes"]
        if settings.port is not None:
            options += ["-p", str(settings.port)]
        if settings.username is not None:
            options += ["-l", settings.username]
        return cls(
            program=settings.ssh,
            options=tuple(options),
            configuration=configuration,
            host=target.host,
            who=f"{settings.username}@{target.host}" if settings.username else target.host,
            patience=2 * settings.connect_timeout + _LOGIN_SECONDS,
            password_file=str(settings.password_file) if asks else None,
        )

    @classmethod
    def from_json(cls, text: str) -> Login:
        """Given what `to_json` returned, return the value. Raise ValueError, TypeError or KeyError."""
        values = json.loads(text)
        values["program"] = tuple(values["program"])
        values["options"] = tuple(values["options"])
        return cls(**values)

    def to_json(self) -> str:
        """Return it as one line of text."""
        return json.dumps(dataclasses.asdict(self))

    def words(self, configuration: str | None, socket: str) -> list[str]:
        """Given the file that holds the configuration, if there is one, and the socket to make, return the command."""
        named = ["-F", configuration] if configuration is not None else []
        return [*self.program, *named, *self.options, "-M", "-N", "-S", socket, "--", self.host]

    def explain(self, said: str) -> str:
        """Given what ssh said, return it as the reason of a LinkError."""
        hint = next((f" ({hint})" for words, hint in _HINTS if words in said), "")
        return f"cannot connect to {self.who}: {said or 'no answer'}{hint}"


def client(socket: str) -> str:
    """Given the socket of an ssh that has logged in, return the command that uses it and never logs in by itself."""
    return f"ssh -F none -S {socket} -o ProxyCommand=false"
