"""From the scheduler's work to the arrays of one forward pass."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from tritium.backends.embedded.model import Batch, DecodeGroup, PromptChunk
from tritium.backends.embedded.scheduler import Sequence, Work


@dataclass(frozen=True, slots=True)
class Step:
    """A batch and, in the order of its logit rows, the sequences that get a token by it."""

    batch: Batch
    sequences: list[Sequence]


def build_step(works: list[Work], block_tokens: int) -> Step:
    """Lay the work out: decoding rows first, those of similar context side by side, then the prompts."""
    decoding = sorted((work for work in works if work.sequence.missing == 1), key=_size_class)
    prompts = [work for work in works if work.sequence.missing > 1]
    tokens: list[int] = []
    positions: list[int] = []
    blocks: list[int] = []
    decodes: list[DecodeGroup] = []
    for _, same in groupby(decoding, key=_size_class):
        group = [work.sequence for work in same]
        first = len(tokens)
        tokens += [sequence.tokens[-1] for sequence in group]
        positions += [sequence.computed for sequence in group]
        blocks += [sequence.blocks[sequence.computed // block_tokens] for sequence in group]
        decodes.append(_decode_group(first, group, block_tokens))
    sequences = [work.sequence for work in decoding]
    logit_rows = list(range(len(decoding)))
    chunks: list[PromptChunk] = []
    for work in prompts:
        sequence, first = work.sequence, len(tokens)
        start, end = sequence.computed, sequence.computed + work.count
        tokens += sequence.tokens[start:end]
        positions += range(start, end)
        blocks += [sequence.blocks[position // block_tokens] for position in range(start, end)]
        chunks.append(
            PromptChunk(first, len(tokens), start, np.array(sequence.blocks[: -(-end // block_tokens)], np.int64))
        )
        if work.completes:
            sequences.append(sequence)
            logit_rows.append(len(tokens) - 1)
    places = np.array(positions, np.int64)
    batch = Batch(
        np.array(tokens, np.int64),
        places,
        np.array(blocks, np.int64),
        places % block_tokens,
        decodes,
        chunks,
        np.array(logit_rows, np.int64),
    )
    return Step(batch, sequences)


def _size_class(work: Work) -> int:
    """Return the power of two of a context's blocks: no row of a group is padded to more than twice its own."""
    return len(work.sequence.blocks).bit_length()


def _decode_group(first: int, group: list[Sequence], block_tokens: int) -> DecodeGroup:
    width = max(len(sequence.blocks) for sequence in group)
    tables = np.array([sequence.blocks + [0] * (width - len(sequence.blocks)) for sequence in group], np.int64)
    last_seen = np.array([sequence.computed for sequence in group], np.int64)
    beyond = np.arange(width * block_tokens) > last_seen[:, None]
    bias = np.zeros(beyond.shape, np.float32)
    bias[beyond] = -np.inf
    return DecodeGroup(first, first + len(group), tables, bias)
