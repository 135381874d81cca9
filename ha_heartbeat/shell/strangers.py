"""What somebody is who does not speak as a peer does, in words."""

from __future__ import annotations

from ha_heartbeat.wire.codec import ComplaintError, VersionError
from ha_heartbeat.wire.frames import WireError


def check_beginning(partial: bytes) -> None:
    """Raise WireError if a line that is still incomplete cannot become a message.

    Other protocols are told from ours by their first byte, so that one without newlines, such as
    TLS, does not have to be waited for.
    """
    if partial and not partial.startswith(b"{"):
        raise WireError(f"it does not speak ha-heartbeat but {_other_protocol(partial)}")


def _other_protocol(beginning: bytes) -> str:
    if beginning.startswith(b"\x16\x03"):
        return "TLS"
    return "another protocol"


def kind_and_reason(error: WireError) -> tuple[str, str]:
    """The kind of trouble, for saying each once, and the sentence."""
    if isinstance(error, VersionError):
        return "version", str(error)
    if isinstance(error, ComplaintError):
        return "complaint", str(error)
    return "garbage", str(error)
