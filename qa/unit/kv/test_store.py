"""The block store as its callers see it."""

import pytest
from qa.unit.kv.blocks import BLOCK, SHAPE, keys, load, save

from tritium.kv.block import Namespace, Tier
from tritium.kv.settings import HostSettings, StoreSettings
from tritium.kv.store import BlockStore


@pytest.fixture
def store():
    """A store of ten blocks in host memory."""
    with BlockStore(StoreSettings(BLOCK, HostSettings(10 * BLOCK)), 16) as opened:
        yield opened


def test_what_was_saved_is_loaded(store: BlockStore) -> None:
    """Byte by byte, and blocks that were never saved are told apart."""
    save(store, keys(4))
    assert store.hold(keys(6)) == [Tier.HOST] * 4 + [None] * 2
    assert store.longest(keys(6)) == 4
    assert load(store, keys(6)) == [True] * 4 + [False] * 2


def test_the_least_recently_used_go_first(store: BlockStore) -> None:
    """Loading counts as use; of one prompt the last blocks go before the first, without which they are of no use."""
    save(store, keys(5))
    save(store, keys(5, 5))
    load(store, keys(2))
    save(store, keys(4, 10))
    assert store.hold(keys(14)) == [Tier.HOST] * 2 + [None] * 3 + [Tier.HOST] * 4 + [None] + [Tier.HOST] * 4


def test_a_prompt_does_not_push_out_its_own_blocks(store: BlockStore) -> None:
    """What is held already makes no room for what is saved with it."""
    save(store, keys(10))
    assert save(store, [*keys(2, 8), *keys(8, 100)]) == [True] * 10


def test_another_shape_is_never_served(store: BlockStore) -> None:
    """The same block hash under another model, dtype, layout, share of heads, block size or tenant is another block."""
    save(store, keys(1))
    others = [
        Namespace("n", "bfloat16", SHAPE.layout, 16),
        Namespace("m", "float16", SHAPE.layout, 16),
        Namespace("m", "bfloat16", "else", 16),
        Namespace("m", "bfloat16", SHAPE.layout, 32),
        Namespace("m", "bfloat16", SHAPE.layout, 16, tp_size=2),
        Namespace("m", "bfloat16", SHAPE.layout, 16, tp_size=2, tp_rank=1),
        Namespace("m", "bfloat16", SHAPE.layout, 16, tenant="t"),
    ]
    assert store.hold([other.key(bytes(8)) for other in others]) == [None] * len(others)
    assert len({other.prefix for other in others}) == len(others)


def test_memory_of_another_size_gets_nothing(store: BlockStore) -> None:
    """A block is copied whole or not at all."""
    save(store, keys(1))
    target = memoryview(bytearray(BLOCK - 1))
    transfer = store.load(keys(1), [target])
    assert transfer.wait(60)
    assert transfer.failed == {0}
    assert target == bytes(BLOCK - 1)
