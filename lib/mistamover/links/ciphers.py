"""Which cipher a connection prefers: AES-GCM, where the processor does AES by itself.

It is twice as fast then as OpenSSH's first choice (two gibibytes through a bare ssh over the loopback: 2.0 s with
aes128-gcm, 4.1 s with chacha20-poly1305).
What the user's own ssh configuration says about ciphers comes first.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

#: What OpenSSH offers by default, in another order.
_ORDER = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)

#: What ssh would not take as a part of the path in an Include.
_SPECIAL = frozenset('"\\*?[]%$~\n')

#: Seconds for ssh to list what it knows.
_ASK_SECONDS = 10


def configuration(program: str, user_file: Path | None) -> str | None:
    """Given the ssh program and its configuration file (None: those that it reads by itself), return the text of one
    that reads it first and then prefers AES-GCM; None where that would be no gain, or cannot be said.
    """
    if user_file is not None and _SPECIAL.intersection(str(user_file)):
        return None
    if not _has_aes() or not (known := _known_ciphers(program)):
        return None
    files = f'"{user_file}"' if user_file is not None else "~/.ssh/config /etc/ssh/ssh_config"
    preferred = ",".join(name for name in _ORDER if name in known)
    # The first value that ssh reads for a key is the one that counts.
    return f"Include {files}\nMatch all\n    Ciphers {preferred}\n"


@cache
def _has_aes() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(("flags", "Features")) and "aes" in line.split() for line in lines)


@cache
def _known_ciphers(program: str) -> frozenset[str]:
    """Ask ssh which ciphers it was built with: a name that it does not know would end every connection."""
    try:
        said = subprocess.run([program, "-Q", "cipher"], capture_output=True, timeout=_ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(said.stdout.decode("ascii", "replace").split())
