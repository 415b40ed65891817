"""Messages of any length over a Connection, in parts that neither end can be stopped in the middle of."""

import time
from multiprocessing.connection import Connection
from select import poll

PART = 16_000  # bytes: one write, which a socket takes whole once it says that it is writable
MORE, LAST = b"+", b"."
POLLOUT = 4


def send(pipe: Connection, data: bytes, deadline: float | None = None) -> None:
    """TimeoutError when the other end does not read until `deadline` (time.monotonic); OSError when it is gone."""
    for at in range(0, max(1, len(data)), PART):
        if deadline is not None:
            writable = poll()
            writable.register(pipe.fileno(), POLLOUT)
            if not writable.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError
        pipe.send_bytes((MORE if at + PART < len(data) else LAST) + data[at : at + PART])


def receive(pipe: Connection, deadline: float | None = None) -> bytes:
    """The next message; TimeoutError when it is not whole until `deadline`, EOFError or OSError when nobody is there."""
    parts = []
    while True:
        if deadline is not None and not pipe.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        part = pipe.recv_bytes()
        parts.append(part[1:])
        if part[:1] == LAST:
            return b"".join(parts)
