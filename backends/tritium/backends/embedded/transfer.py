"""Disaggregation: a prefill worker keeps the blocks of a prompt for a while, a decode worker pulls them.

    prefill: finish --export--> leased --note of the reader, or expiry--> released
    decode:  admit --begin--> on hold --read done--> runs from the last prompt token
                                 `------read failed, too late, foreign--> computes the prompt itself

What is exported is a description (`Description`, as a dict in a delta): where the blocks lie, of which tokens, until
when. A read counts only if it ended before the lease did; the owner waits a little longer, for clocks differ.
"""

import time
from array import array
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated

import msgspec
import numpy as np
import structlog
import xxhash

from tritium.backends.embedded.scheduler import Scheduler, Sequence
from tritium.backends.embedded.weights import Floats
from tritium.backends.transfer.transport import Pieces, Read, ReadState, Transport

LEASE_S = 60.0
GRACE_S = 5.0
READ_LIMIT_S = 10.0
CLOSE_LIMIT_S = 1.0

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]

_PULL_POLL_S = 0.0002
_LEASE_POLL_S = 0.02

_log = structlog.get_logger("tritium.embedded")


class Description(msgspec.Struct, forbid_unknown_fields=True):
    """KV held by a worker: blocks `blocks` of its pool of `pool_blocks` hold the first `tokens` tokens of a prompt."""

    engine: str
    worker: str
    handle: str
    transport: str
    address: str
    layout: str
    pool_blocks: Count
    blocks: list[Count]
    tokens: Count
    digest: int
    expires: float


@dataclass(slots=True)
class TransferCounts:
    """What was moved, for `metrics()`."""

    received_bytes: int = 0
    received_blocks: int = 0
    pulls: int = 0
    failures: int = 0
    exports: int = 0
    expired: int = 0


@dataclass(slots=True)
class _Lease:
    blocks: list[int]
    until: float


@dataclass(slots=True)
class _Pull:
    """A read under way; its own lease on `blocks` lasts as long as they may be written."""

    read: Read
    sequence: Sequence
    blocks: list[int]
    described: Description
    size_bytes: int
    began: float


@dataclass(slots=True)
class KvTransfer:
    """The exports and pulls of one engine; used by its thread alone.

    `cache` is the region of `transport`, in the model's layout; `layout` names shape and weights, so that only
    workers of the same model read each other.
    """

    transport: Transport
    cache: Floats
    scheduler: Scheduler
    layout: str
    worker: str
    lease_s: float = LEASE_S
    counts: TransferCounts = field(default_factory=TransferCounts)
    _leases: dict[str, _Lease] = field(default_factory=dict)
    _pulls: list[_Pull] = field(default_factory=list)
    _handles: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def pulling(self) -> bool:
        """Tell whether reads are under way."""
        return bool(self._pulls)

    @property
    def patience_s(self) -> float | None:
        """Return how long `poll` may wait when nothing else is to do; None when it need not be called."""
        if any(pull.sequence.on_hold for pull in self._pulls):
            return _PULL_POLL_S
        return _LEASE_POLL_S if self._leases or self._pulls else None

    @property
    def leases(self) -> int:
        """Return how many exports wait for their reader."""
        return len(self._leases)

    def export(self, sequence: Sequence) -> dict[str, object]:
        """Keep the blocks of a finished sequence's prompt, and describe them."""
        size = self.scheduler.pool.block_tokens
        tokens = min(sequence.computed, sequence.prompt_tokens)
        blocks = sequence.blocks[: -(-tokens // size)]
        self.scheduler.pool.lease(blocks)
        handle = str(next(self._handles))
        expires = time.time() + self.lease_s
        self._leases[handle] = _Lease(blocks, expires + GRACE_S)
        self.counts.exports += 1
        described = Description(
            "embedded",
            self.worker,
            handle,
            self.transport.name,
            self.transport.address,
            self.layout,
            self.scheduler.pool.blocks,
            blocks,
            tokens,
            _digest(sequence.tokens[:tokens]),
            expires,
        )
        return msgspec.structs.asdict(described)

    def begin(self, sequence: Sequence) -> None:
        """Begin to pull what the sequence's `transfer` describes; it is on hold until then, or computes itself."""
        given, sequence.transfer = sequence.transfer, None
        try:
            described = msgspec.convert(given, Description)
        except msgspec.ValidationError as reason:
            self._failed(sequence, f"not a description of this engine's KV: {reason}")
            return
        refusal = self._refusal(described, sequence)
        if refusal:
            self._failed(sequence, refusal)
            return
        size = self.scheduler.pool.block_tokens
        first, last = sequence.computed // size, len(described.blocks)
        if first >= last or sequence.computed >= len(sequence.tokens) - 1:
            self.transport.tell(described.address, described.handle)
            return
        blocks = sequence.blocks[first:last]
        pieces = self._pieces(described.blocks[first:last], described.pool_blocks, blocks)
        try:
            read = self.transport.read(described.address, pieces, described.handle)
        except OSError as reason:
            self._failed(sequence, str(reason))
            return
        self.scheduler.pool.lease(blocks)
        sequence.on_hold = True
        self._pulls.append(_Pull(read, sequence, blocks, described, pieces.size_bytes, time.monotonic()))

    def poll(self) -> None:
        """Drive the reads, and give back what readers are done with or came too late for."""
        for pull in list(self._pulls):
            self._drive(pull)
        if not self._leases:
            return
        for handle in self.transport.take_notes():
            self._end_lease(handle)
        now = time.time()
        for handle in [each for each, lease in self._leases.items() if lease.until < now]:
            self._end_lease(handle)
            self.counts.expired += 1

    def close(self) -> None:
        """Let reads under way end, for they write into memory that is about to go, and leave the transport."""
        limit = time.monotonic() + CLOSE_LIMIT_S
        while self._pulls and time.monotonic() < limit:
            self.poll()
            time.sleep(_PULL_POLL_S)
        self.transport.close()

    def _refusal(self, described: Description, sequence: Sequence) -> str:
        """Return why the description cannot be used, or ""."""
        if described.transport != self.transport.name:
            return f"worker {described.worker} moves KV by {described.transport}, this one by {self.transport.name}"
        if described.layout != self.layout:
            return f"worker {described.worker} has another model or layout: {described.layout}, not {self.layout}"
        if described.expires < time.time():
            return f"the lease of worker {described.worker} has expired"
        if described.tokens > len(sequence.tokens) or len(described.blocks) > len(sequence.blocks):
            return f"it is of {described.tokens} tokens and the prompt has {len(sequence.tokens)}"
        if _digest(sequence.tokens[: described.tokens]) != described.digest:
            return f"worker {described.worker} holds it for another prompt"
        return ""

    def _pieces(self, theirs: list[int], their_pool: int, ours: list[int]) -> Pieces:
        """Locate blocks in both regions: a block lies in two pieces (keys, values) a layer."""
        planes = np.arange(self.cache.shape[0] * 2)[:, None]
        piece_bytes = self.cache[0, 0, 0].nbytes
        return Pieces(
            ((planes * their_pool + np.array(theirs)) * piece_bytes).ravel(),
            ((planes * self.cache.shape[2] + np.array(ours)) * piece_bytes).ravel(),
            piece_bytes,
        )

    def _drive(self, pull: _Pull) -> None:
        state = pull.read.poll()
        sequence = pull.sequence
        # One that was dropped in the meantime is no longer on hold.
        if state is ReadState.PENDING:
            if sequence.on_hold and time.monotonic() - pull.began > READ_LIMIT_S:
                # Its blocks may still be written: the pull keeps them, the sequence starts over in others.
                self.scheduler.requeue(sequence)
                self._failed(sequence, f"no answer from worker {pull.described.worker} in {READ_LIMIT_S:.0f} s")
            return
        self._pulls.remove(pull)
        if sequence.on_hold:
            self._settle(pull, state)
        self.scheduler.pool.release(pull.blocks)

    def _settle(self, pull: _Pull, state: ReadState) -> None:
        sequence, described = pull.sequence, pull.described
        sequence.on_hold = False
        if state is ReadState.FAILED:
            self._failed(sequence, pull.read.reason)
        elif described.expires < time.time():
            self._failed(sequence, f"the lease of worker {described.worker} ended during the read")
        else:
            before = sequence.computed
            sequence.computed = min(described.tokens, len(sequence.tokens) - 1)
            sequence.cached_tokens = sequence.computed
            self.scheduler.seal(sequence, before)
            self.counts.pulls += 1
            self.counts.received_blocks += len(pull.blocks)
            self.counts.received_bytes += pull.size_bytes

    def _failed(self, sequence: Sequence, reason: str) -> None:
        self.counts.failures += 1
        _log.warning("kv_pull_failed", sequence=sequence.id, reason=reason, action="the prompt is computed here")

    def _end_lease(self, handle: str) -> None:
        lease = self._leases.pop(handle, None)
        if lease is not None:
            self.scheduler.pool.release(lease.blocks)


def _digest(tokens: list[int]) -> int:
    """Return what tells one prompt from another, of 63 bits: JSON readers lose the 64th."""
    return xxhash.xxh3_64_intdigest(array("i", tokens).tobytes()) >> 1
