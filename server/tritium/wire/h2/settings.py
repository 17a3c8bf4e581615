"""What the two sides of a connection announce to each other when it begins."""

import struct

from tritium.wire.grpc import GrpcLimits
from tritium.wire.h2.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    MOST_FRAME_BYTES,
    MOST_WINDOW,
    Code,
    ConnectionFault,
    Setting,
    pack_settings,
    pack_window_update,
)

DATA_FRAME_BYTES = 1 << 20
"""The DATA frames we take: a message of a megabyte in one piece, read straight into place."""


def pack_hello(limits: GrpcLimits) -> bytes:
    """Announce what this side takes: settings, and the connection's window."""
    settings = {
        Setting.MAX_CONCURRENT_STREAMS: limits.concurrent_streams,
        Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
        Setting.MAX_FRAME_SIZE: DATA_FRAME_BYTES,
        Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
    }
    more = limits.connection_window - DEFAULT_WINDOW
    return pack_settings(settings) + (pack_window_update(0, more) if more > 0 else b"")


def unpack_settings(payload: bytes) -> list[tuple[int, int]]:
    """Cut the payload of a SETTINGS frame into identifiers and values.

    Raises:
        ConnectionFault: A setting is cut short or has a value that RFC 9113 (6.5.2) forbids.
    """
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of six bytes")
    settings: list[tuple[int, int]] = list(struct.iter_unpack(">HL", payload))
    for key, value in settings:
        if key == Setting.INITIAL_WINDOW_SIZE and value > MOST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}")
        if key == Setting.MAX_FRAME_SIZE and not DEFAULT_FRAME_BYTES <= value <= MOST_FRAME_BYTES:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}")
        if key == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"ENABLE_PUSH {value}")
    return settings
