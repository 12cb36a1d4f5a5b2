"""One thread, one loop: whoever waits for something lets everything else go on meanwhile.

While a check waits for a program in the guest, the host must still answer the guest's ARP
requests, record its packets and read its console.  Every wait of the proof is therefore
:meth:`Reactor.wait`.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress

LOOK = 0.2  # seconds after which a wait looks again for what no socket tells, such as a death


class Reactor:
    """Calls back when sockets become readable, for as long as somebody waits."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, sock: socket.socket, readable: Callable[[], None]) -> None:
        """Call *readable* whenever *sock* has something to read."""
        self._selector.register(sock, selectors.EVENT_READ, readable)

    def remove(self, sock: socket.socket) -> None:
        """Forget *sock*."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Let things happen until *until* answers true; false if *seconds* pass before."""
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in self._selector.select(min(left, LOOK)):
                key.data()
        return True
