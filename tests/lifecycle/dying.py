"""Has this process end itself with SIGKILL at one of the requests that it sends to memcached.

For the settings of a site: ``DIE_AT`` in the process environment is the number of the request,
from 1, ``DIE_AMONG`` a pattern of how the requests begin that count, and ``DIE_WITHIN`` says
whether only half of it is sent before.
"""

import os
import re
import signal
import socket


def watch() -> None:
    at = int(os.environ.get("DIE_AT", "0"))
    among = re.compile(os.environ.get("DIE_AMONG", "").encode())
    sent = 0
    send = socket.socket.send

    def dying_send(self: socket.socket, data: bytes, *flags: int) -> int:
        nonlocal sent
        sent += among.match(data[:300]) is not None
        if sent < at:
            return send(self, data, *flags)
        within = os.environ.get("DIE_WITHIN") == "1"
        send(self, data[: len(data) // 2] if within else data, *flags)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody survives this")

    if at:
        socket.socket.send = dying_send  # type: ignore[method-assign]
