"""vLLM's KV events, as its publisher writes them."""

import asyncio

import msgspec
import pytest
import zmq

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared
from tritium.backends.event_reader import EventReader
from tritium.backends.vllm.events import translate


def stored(**fields):
    return {
        "type": "BlockStored",
        "block_hashes": [1, 2],
        "parent_block_hash": None,
        "token_ids": list(range(64)),
        "block_size": 32,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **fields,
    }


def batch(*events):
    return msgspec.msgpack.encode([12.5, list(events), 0])


def test_translates():
    """Every kind of event, what vLLM adds beside included, becomes ours."""
    assert translate(batch(stored(unheard_of=1), {"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU"})) == [
        BlocksStored([1, 2], None, list(range(64)), 32),
        BlocksRemoved([1]),
    ]
    assert translate(batch({"type": "AllBlocksCleared"})) == [CacheCleared()]


@pytest.mark.parametrize(
    ("fields", "lora", "salt"),
    [
        ({"extra_keys": [["acme"], None]}, "", "acme"),
        ({"lora_name": "poet", "extra_keys": [["poet"], ["poet"]]}, "poet", ""),
        ({"lora_name": "poet", "extra_keys": [["poet", "acme"], ["poet"]]}, "poet", "acme"),
        ({"extra_keys": [[["image", 3], "acme"], None]}, "", "acme"),
        ({"extra_keys": None}, "", ""),
    ],
)
def test_salts_and_adapters(fields, lora, salt):
    """Salt and adapter of a prompt's first block are told apart."""
    (event,) = translate(batch(stored(**fields)))
    assert (event.lora, event.salt) == (lora, salt)


def test_digests_are_cut_to_numbers():
    """Where vLLM sends whole digests, their last eight bytes stand for them, parent and block alike."""
    (event,) = translate(batch(stored(block_hashes=[b"\1" * 32, b"\2" * 32], parent_block_hash=b"\3" * 32)))
    assert event.hashes == [0x0101010101010101, 0x0202020202020202]
    assert event.parent == 0x0303030303030303


def test_other_tiers_and_groups():
    """Media below the device keep their tier; the windows of a hybrid model are left out."""
    events = translate(batch(stored(medium="CPU"), stored(medium="MARS"), stored(group_idx=1)))
    assert [event.tier for event in events] == ["host", "other"]


async def test_reads_from_a_publisher_and_notices_gaps():
    """Events arrive in order; after a gap the cache is taken as unknown."""
    reader = EventReader(translate)
    seen, more = [], asyncio.Event()

    def take(events):
        seen.extend(events)
        more.set()

    reader.start(take)
    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    publisher.setsockopt(zmq.LINGER, 0)
    publisher.connect(reader.endpoint)  # as vLLM's publisher does with such an endpoint
    try:
        async with asyncio.timeout(10):
            while not seen:  # until the subscription has reached the publisher
                publisher.send_multipart([b"", (0).to_bytes(8, "big"), batch(stored())])
                await asyncio.sleep(0.01)
            seen.clear()
            reader._expected = 5
            for number in (5, 6, 8):
                publisher.send_multipart([b"", number.to_bytes(8, "big"), batch(stored(block_hashes=[number, 0]))])
            while len(seen) < 4:
                more.clear()
                await more.wait()
        assert [type(event) for event in seen] == [BlocksStored, BlocksStored, CacheCleared, BlocksStored]
        assert [event.hashes[0] for event in seen if isinstance(event, BlocksStored)] == [5, 6, 8]
        assert reader.lost == 1
    finally:
        publisher.close()
        context.term()
        reader.close()
