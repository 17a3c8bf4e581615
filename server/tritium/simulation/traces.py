"""Workloads from files in the format of Mooncake's traces: a JSON object a line.

    {"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [one a block of 512 tokens]}

Equal ids mean equal beginnings. A trace says nothing of its answers' content, so that no prompt finds an answer cached.
"""

import heapq
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from tritium.core.errors import InvalidArgument
from tritium.simulation.request import Request, Workload

TRACE_BLOCK_TOKENS = 512

_COPY_BITS = 40
"""Ids of a copy are its number above these bits."""


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Row(msgspec.Struct, frozen=True):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: _Count
    output_length: _Count
    hash_ids: list[_Count]


def read_trace(
    path: Path, *, limit: int = 0, pace: float = 1.0, shrink: int = 1, copies: int = 1, block_tokens: int | None = None
) -> Workload:
    """Read a trace of Mooncake's format.

    The first `limit` requests (0: all), `pace` times as fast, every length divided by `shrink`, and `copies` of it that
    share nothing and begin one after the other, so that larger fleets have the same kind of load. The engines' blocks
    have `block_tokens` each, which divide the trace's.

    Raises:
        InvalidArgument: a file or a line that cannot be read, or blocks that do not divide the trace's.
    """
    whole = max(1, TRACE_BLOCK_TOKENS // shrink)
    block_tokens = block_tokens or whole
    if whole % block_tokens or TRACE_BLOCK_TOKENS % shrink:
        raise InvalidArgument(
            f"blocks of {block_tokens} tokens do not divide a trace's block of {TRACE_BLOCK_TOKENS}/{shrink} tokens",
            hint="16, 32, 64, 128, 256 and 512 divide 512",
        )
    rows = _read(path, limit)
    if not rows:
        raise InvalidArgument(f"{path} has no requests")
    parts = whole // block_tokens
    # Copies begin a part of the mean gap after one another, not together.
    shift_s = rows[-1].timestamp / 1e3 / len(rows) / copies

    def copy(number: int) -> Iterator[Request]:
        above = number << _COPY_BITS
        for place, row in enumerate(rows):
            tokens = max(1, row.input_length // shrink)
            ids = (
                row.hash_ids if parts == 1 else [name * parts + part for name in row.hash_ids for part in range(parts)]
            )
            yield Request(
                place * copies + number,
                (row.timestamp / 1e3 + number * shift_s) / pace,
                tokens,
                max(1, row.output_length // shrink),
                [above | name for name in ids[: tokens // block_tokens]],
            )

    def requests() -> Iterator[Request]:
        return heapq.merge(*map(copy, range(copies)), key=lambda request: request.at_s)

    return Workload(path.stem, block_tokens, requests)


def _read(path: Path, limit: int) -> list[_Row]:
    decoder = msgspec.json.Decoder(_Row)
    rows = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(itertools.islice(lines, limit or None), 1):
                row = decoder.decode(line)
                if len(row.hash_ids) * TRACE_BLOCK_TOKENS < row.input_length - TRACE_BLOCK_TOKENS + 1:
                    raise InvalidArgument(
                        f"{path}:{number} has {len(row.hash_ids)} hash_ids for {row.input_length} tokens",
                        hint=f"a trace has one for each block of {TRACE_BLOCK_TOKENS} tokens",
                    )
                rows.append(row)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InvalidArgument(
            f"{path}:{number}: {error}", hint='a line is {"timestamp", "input_length", "output_length", "hash_ids"}'
        ) from None
    rows.sort(key=lambda row: row.timestamp)
    return rows
