"""Blocks whose bytes follow from their keys, so that whatever is loaded can be held against what it must be."""

import numpy as np

from tritium.kv.block import Namespace
from tritium.kv.store import BlockStore

BLOCK = 5000
SHAPE = Namespace("m", "bfloat16", "layers 2, heads 2, size 64", 16)
PATIENCE_S = 60


def keys(count: int, first: int = 0, namespace: Namespace = SHAPE) -> list[bytes]:
    """Return the keys of some blocks."""
    return [namespace.key(i.to_bytes(8, "big")) for i in range(first, first + count)]


def data(key: bytes) -> memoryview:
    """Return a block's bytes."""
    return np.random.default_rng(list(key)).integers(0, 256, BLOCK, np.uint8).data


def save(store: BlockStore, names: list[bytes]) -> list[bool]:
    """Save blocks, wait until they are wherever they go, and return which were kept."""
    transfer = store.save(names, [data(key) for key in names])
    assert transfer.wait(PATIENCE_S)
    assert store.settle(PATIENCE_S)
    return [i not in transfer.failed for i in range(len(names))]


def load(store: BlockStore, names: list[bytes]) -> list[bool]:
    """Load blocks, check each that is said to have arrived, and return which those are."""
    targets = [memoryview(bytearray(BLOCK)) for _ in names]
    transfer = store.load(names, targets)
    assert transfer.wait(PATIENCE_S)
    arrived = [i not in transfer.failed for i in range(len(names))]
    for key, target, good in zip(names, targets, arrived, strict=True):
        assert not good or target == data(key)
    assert store.settle(PATIENCE_S)
    return arrived
