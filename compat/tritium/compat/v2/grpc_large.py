"""A large ModelInferRequest apart from its tensors.

Protobuf copies every byte of a tensor twice, into the message and out of it again. So the tensors of a large message
are found by hand and stay where they arrived: with the response unjoined, 170 of 820 µs of CPU for a 1 MiB identity.
"""

_RAW_INPUT_CONTENTS = 7 << 3 | 2


def cut(message: memoryview) -> tuple[bytes, list[memoryview]]:
    """Return the message without its raw_input_contents, and those, in order, as views of it.

    Raises:
        ValueError: this is no message; what is wrong with it, protobuf tells.
    """
    rest: list[memoryview] = []
    raws: list[memoryview] = []
    at, end = 0, len(message)
    while at < end:
        start = at
        tag, at = _varint(message, at)
        begin = at
        match tag & 7:  # the wire type
            case 2:
                size, begin = _varint(message, at)
                at = begin + size
            case 0:
                at = _varint(message, at)[1]
            case 1:
                at += 8
            case 5:
                at += 4
            case kind:
                raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("a field ends behind the message")
        if tag == _RAW_INPUT_CONTENTS:
            raws.append(message[begin:at])
        else:
            rest.append(message[start:at])
    return b"".join(rest), raws


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a number; return it and where the next field goes on."""
    number = shift = 0
    for byte in message[at : at + 10]:
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number without an end")
