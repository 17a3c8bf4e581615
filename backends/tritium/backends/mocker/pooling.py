"""What the mocker answers to a prompt that is pooled: numbers that a test can know beforehand.

Equal tokens give equal numbers on every worker, similar texts similar vectors: each token adds a direction of its own.
"""

from functools import lru_cache
from zlib import crc32

import numpy as np

from tritium.backends.engine import Pool, Pooled

WIDTH = 16
"""Numbers in an embedding, unless `dimensions` asks for fewer."""

CLASSES = 3


def pooled(request: Pool) -> Pooled:
    """Pool a prompt: embeddings of length 1, probabilities that add up to 1, a score from 0 to 1.

    A score is how alike the two texts are that `second_at` divides; without it, the prompt's halves.
    """
    seed = crc32(request.lora.encode())
    width = min(request.parameters.get("dimensions") or WIDTH, WIDTH)
    tokens = request.token_ids
    match request.task:
        case "classify":
            numbers = _embed(tokens, seed, CLASSES)
            numbers = np.exp(numbers) / np.exp(numbers).sum()
        case "score":
            middle = request.second_at or len(tokens) // 2
            alike = _embed(tokens[:middle], seed, WIDTH) @ _embed(tokens[middle:], seed, WIDTH)
            numbers = np.array([(1 + alike) / 2])
        case "token_embed":
            numbers = np.stack([_embed([token], seed, width) for token in tokens])
        case _:
            numbers = _embed(tokens, seed, width)
    return Pooled(request.id, list(numbers.shape), numbers.astype("<f4").tobytes())


def _embed(tokens: list[int], seed: int, width: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    total = np.zeros(width)
    for token in tokens:
        total += _direction(seed, token, width)
    length = float(np.linalg.norm(total))
    return total / length if length else total


@lru_cache(maxsize=65_536)
def _direction(seed: int, token: int, width: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    # A generator takes twenty times as long to make as a direction to add.
    return np.random.default_rng((seed, token)).standard_normal(width)
