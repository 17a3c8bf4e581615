"""HTTP/2 frames: their numbers, how they are packed, and the two ways in which a peer can break them (RFC 9113)."""

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD = struct.Struct(">HBBBL")
"""Length (16 high bits, 8 low bits), type, flags, stream."""
HEAD_BYTES = 9
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_BYTES = 16_384
MOST_FRAME_BYTES = (1 << 24) - 1
MOST_WINDOW = (1 << 31) - 1
STREAM_MASK = (1 << 31) - 1

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20


class Kind(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Parameters of a SETTINGS frame."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke the connection: it gets GOAWAY with this code and reason, and the connection ends."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The peer broke one stream: that one is reset with this code."""

    def __init__(self, stream_id: int, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.code = code


def pack_head(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Pack the nine bytes before a payload."""
    return FRAME_HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id)


def pack_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Pack a whole frame."""
    return pack_head(len(payload), kind, flags, stream_id) + payload


def pack_settings(values: dict[Setting, int]) -> bytes:
    """Pack a SETTINGS frame."""
    payload = b"".join(struct.pack(">HL", key, value) for key, value in values.items())
    return pack_frame(Kind.SETTINGS, 0, 0, payload)


def pack_window_update(stream_id: int, credit: int) -> bytes:
    """Pack a WINDOW_UPDATE frame."""
    return pack_frame(Kind.WINDOW_UPDATE, 0, stream_id, credit.to_bytes(4, "big"))


def pack_reset(stream_id: int, code: Code) -> bytes:
    """Pack a RST_STREAM frame."""
    return pack_frame(Kind.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def pack_goaway(last_stream: int, code: Code, reason: str = "") -> bytes:
    """Pack a GOAWAY frame; the reason is for whoever reads a packet trace."""
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()
    return pack_frame(Kind.GOAWAY, 0, 0, payload)
