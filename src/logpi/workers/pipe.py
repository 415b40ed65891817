"""Messages of any length over two one-way pipes: one system call each for a short one."""

import os
import time
from multiprocessing.connection import Connection
from select import PIPE_BUF, poll

POLLIN, POLLOUT = 1, 4
HEADER = 4  # bytes: the length of what follows
READ = 1 << 16


class Channel:
    """One end. `other`: a file that becomes readable when the process at the other end is gone."""

    def __init__(self, reader: Connection, writer: Connection, other: int | None = None) -> None:
        self.pipes = (reader, writer)
        self.reader, self.writer = reader.fileno(), writer.fileno()
        self.got = bytearray()  # read, and not yet received
        self.readable, self.writable = poll(), poll()
        self.readable.register(self.reader, POLLIN)
        self.writable.register(self.writer, POLLOUT)
        if other is not None:
            self.readable.register(other, POLLIN)
            os.set_blocking(self.reader, False)  # to look first, and wait only for what is not there

    def send(self, data: bytes, deadline: float | None = None) -> None:
        """TimeoutError when the other end does not read until `deadline` (time.monotonic); OSError when it is gone.

        A pipe that is writable takes PIPE_BUF bytes whole, so that nobody is stopped in the middle of a write.
        """
        data = framed(data)
        if deadline is None or len(data) <= PIPE_BUF:
            self.put(data)
            return
        for at in range(0, len(data), PIPE_BUF):
            if not self.writable.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            os.write(self.writer, data[at : at + PIPE_BUF])

    def put(self, data: bytes) -> None:
        """What is `framed` already. Few short messages are ever under way: there is room for one."""
        while data:
            data = data[os.write(self.writer, data) :]

    def receive(self, deadline: float | None = None) -> bytes:
        """The next message; TimeoutError when it is not whole until `deadline`, EOFError when nobody is there."""
        while (data := self.look()) is None:
            self._wait(deadline)
        return data

    def look(self) -> bytes | None:
        """The next message, None while it is not whole (an end that knows of no `other` waits for it); EOFError as above."""
        while True:
            end = HEADER + int.from_bytes(self.got[:HEADER], "little")
            if HEADER <= len(self.got) >= end:
                data = bytes(self.got[HEADER:end])
                del self.got[:end]
                return data
            try:
                part = os.read(self.reader, READ)
            except BlockingIOError:
                return None
            if not part:
                raise EOFError
            self.got += part

    def _wait(self, deadline: float | None) -> None:
        ready = self.readable.poll(None if deadline is None else 1000 * max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        if all(file != self.reader for file, _ in ready):  # gone, and its pipe held open by a child of its own
            raise EOFError

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(HEADER, "little") + data
