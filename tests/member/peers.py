"""What may be found at a peer's address instead of a peer: each listens on a given socket."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>\r\n"
FLOOD = os.urandom(65536)
OBJECT = b'{"ha-heartbeat":1,"type":"answer","seq":1e999,"view":[[[[]]]]}\n'


def never_answers(conn: socket.socket) -> None:
    """Reads everything and says nothing."""
    while conn.recv(65536):
        pass


def speaks_http(conn: socket.socket) -> None:
    """A web server: a polite refusal."""
    conn.recv(65536)
    conn.sendall(HTTP)


def resets(conn: socket.socket) -> None:
    """Closes with a reset as soon as somebody comes."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def floods(conn: socket.socket) -> None:
    """Sends noise for as long as anybody takes it."""
    while True:
        conn.sendall(FLOOD)


def floods_lines(conn: socket.socket) -> None:
    """Sends what looks like messages, and is none, in great number."""
    while True:
        conn.sendall(OBJECT * 1000)


def hangs_up(conn: socket.socket) -> None:
    """Closes in good order, at once."""


def trickles(conn: socket.socket) -> None:
    """Sends the beginning of a message, byte by byte, and never its end."""
    pause = threading.Event()
    while True:
        conn.sendall(b"{")
        pause.wait(0.02)


Behaviour: TypeAlias = Callable[[socket.socket], None]
CALM: tuple[Behaviour, ...] = (never_answers, speaks_http, resets, hangs_up, trickles)
FLOODS: tuple[Behaviour, ...] = (floods, floods_lines)


@contextlib.contextmanager
def at(bound: socket.socket, behave: Behaviour) -> Iterator[list[int]]:
    """Listen on that socket, with that behaviour; yields a list with an entry for each visit."""
    bound.listen(64)
    visits: list[int] = []
    open_conns: list[socket.socket] = []

    def serve(conn: socket.socket) -> None:
        with contextlib.suppress(OSError), conn:
            behave(conn)

    def accept() -> None:
        while True:
            try:
                conn, _ = bound.accept()
            except OSError:
                return
            visits.append(1)
            open_conns.append(conn)
            threading.Thread(target=serve, args=(conn,), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield visits
    finally:
        with contextlib.suppress(OSError):
            bound.shutdown(socket.SHUT_RDWR)
        bound.close()
        acceptor.join()
        for conn in open_conns:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
