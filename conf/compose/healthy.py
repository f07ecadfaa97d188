#!/usr/bin/env python3
"""Whether the front of this container answers: exit status 0 if it does; for the health checks of containers.

    mistamover-healthy [URL [CERTIFICATE]]

The front is asked on the loopback, whose name need not be in the certificate: the certificate itself has to be the one.
"""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request

#: Seconds.
PATIENCE = 5.0


def main(words: list[str]) -> int:
    """Given URL and file of the certificate, return 0 if health is well."""
    url = words[0] if words else "https://127.0.0.1:6543"
    context = None
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=words[1] if len(words) > 1 else None)
        context.check_hostname = False
    try:
        with urllib.request.urlopen(f"{url}/api/v1/health", timeout=PATIENCE, context=context) as answer:  # noqa: S310
            return 0 if answer.status == 200 else 1
    except (OSError, ValueError) as error:
        print(f"{url}: {getattr(error, 'reason', error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
