"""Cuts a stream of bytes into lines of limited length; knows nothing of what a line means."""

from __future__ import annotations

MAX_LINE_BYTES = 16 * 1024
"""The longest line, its newline included. The longest valid message needs less than 13 KiB."""


class WireError(Exception):
    """What was received (or is to be sent) is no message of this protocol; the text is a sentence.

    It never contains a character of the sender's that could disturb a terminal or a log.
    """


class LineTooLongError(WireError):
    """More than `MAX_LINE_BYTES` arrived without an end of line."""

    def __init__(self) -> None:
        super().__init__(f"a line is longer than the {MAX_LINE_BYTES} bytes that are allowed")


class FrameReader:
    """Collects bytes and returns the lines that they complete.

    Holds less than `MAX_LINE_BYTES` between two calls, and looks at each byte once, however small
    the pieces are in which a slow sender delivers them.
    """

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = bytearray()

    @property
    def partial(self) -> bytes:
        """The beginning of a line whose end has not arrived yet."""
        return bytes(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines, oldest first.

        Raises LineTooLongError; the stream cannot be read any further then, and lines of the same
        piece are lost.
        """
        head, *rest = data.split(b"\n")
        self._partial += head
        if not rest:
            _check_length(len(self._partial))
            return []
        lines = [bytes(self._partial), *rest[:-1]]
        self._partial = bytearray(rest[-1])
        _check_length(max(map(len, lines)))
        _check_length(len(self._partial))
        return lines


def _check_length(length_bytes: int) -> None:
    """Raise LineTooLongError unless a line of this length has room for its newline."""
    if length_bytes >= MAX_LINE_BYTES:
        raise LineTooLongError
