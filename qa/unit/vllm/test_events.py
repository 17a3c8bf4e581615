"""vLLM's KV events, as its publisher writes them."""

import asyncio
from collections import deque
from contextlib import asynccontextmanager

import msgspec
import pytest
import zmq
import zmq.asyncio

from tritium.backends import event_reader
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


def test_media():
    """An image is named at the token it begins at, not again in the blocks it goes on in."""
    keys = [[["cat", 3], "acme"], [["cat", -29], ["dog", 30]]]
    (event,) = translate(batch(stored(extra_keys=keys)))
    assert event.media == {3: "cat", 62: "dog"}
    assert event.salt == "acme"
    (going_on,) = translate(batch(stored(parent_block_hash=1, extra_keys=[[["cat", -61]], None])))
    assert going_on.media == {}


def test_digests_are_cut_to_numbers():
    """Where vLLM sends whole digests, their last eight bytes stand for them, parent and block alike."""
    (event,) = translate(batch(stored(block_hashes=[b"\1" * 32, b"\2" * 32], parent_block_hash=b"\3" * 32)))
    assert event.hashes == [0x0101010101010101, 0x0202020202020202]
    assert event.parent == 0x0303030303030303


def test_other_tiers_and_groups():
    """Media below the device keep their tier; the windows of a hybrid model are left out."""
    events = translate(batch(stored(medium="CPU"), stored(medium="MARS"), stored(group_idx=1)))
    assert [event.tier for event in events] == ["host", "other"]


class Publisher:
    """Publishes as vLLM does: with an endpoint to connect to, and one where its last messages can be asked for."""

    def __init__(self, reader, kept=100):
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.PUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(reader.endpoint)
        self.replay = self.context.socket(zmq.ROUTER)
        self.replay.setsockopt(zmq.LINGER, 0)
        self.replay.bind(reader.replay_endpoint)
        self.buffer = deque(maxlen=kept)
        self.asked = []
        self.lose = set()
        self.task = asyncio.create_task(self.answer())

    async def send(self, number, *, arrives=True):
        message = [b"", number.to_bytes(8, "big"), batch(stored(block_hashes=[number, 0]))]
        self.buffer.append(message)
        if arrives:
            await self.socket.send_multipart(message)

    async def answer(self):
        while True:
            peer, _, start = await self.replay.recv_multipart()
            self.asked.append(int.from_bytes(start, "big"))
            for message in list(self.buffer):
                if message[1] >= start and message[1] not in self.lose:
                    await self.replay.send_multipart([peer, b"", *message])
            self.lose.clear()
            await self.replay.send_multipart([peer, b"", b"", (-1).to_bytes(8, "big", signed=True), b""])

    def close(self):
        self.task.cancel()
        self.socket.close()
        self.replay.close()
        self.context.term()


class Seen:
    """The numbers of the messages that a reader told on."""

    def __init__(self):
        self.numbers = []
        self.more = asyncio.Event()

    def __call__(self, events):
        self.numbers += [event.hashes[0] for event in events]
        self.more.set()

    async def until(self, number):
        async with asyncio.timeout(60):
            while number not in self.numbers:
                self.more.clear()
                await self.more.wait()


@asynccontextmanager
async def reading(**options):
    """A reader and a publisher that have found each other with message 0."""
    reader, seen = EventReader(translate), Seen()
    reader.start(seen)
    publisher = Publisher(reader, **options)
    try:
        async with asyncio.timeout(60):
            while not seen.numbers:  # until the subscription has reached the publisher
                publisher.buffer.clear()
                await publisher.send(0)
                await asyncio.sleep(0.01)
        yield reader, publisher, seen
    finally:
        publisher.close()
        reader.close()


async def test_what_is_missing_is_replayed():
    """Messages that were lost are asked for once, and told in their order before the one that showed the gap."""
    async with reading() as (reader, publisher, seen):
        for number in range(1, 9):
            await publisher.send(number, arrives=number not in (3, 4, 7))
        await seen.until(8)
        assert seen.numbers == list(range(9))
        assert publisher.asked == [3, 7]
        assert reader.metrics() == {"tritium_kv_events_lost_total": 0, "tritium_kv_events_replayed_total": 3}


async def test_a_replay_that_lost_something_is_asked_for_again():
    """What a replay lacks in its midst comes with the next one."""
    async with reading() as (reader, publisher, seen):
        for number in range(1, 7):
            await publisher.send(number, arrives=number in (1, 6))
        publisher.lose = {(4).to_bytes(8, "big")}
        await seen.until(6)
        assert seen.numbers == list(range(7))
        assert publisher.asked[:2] == [2, 4]
        assert reader.lost == 0


async def test_what_cannot_be_replayed_is_counted():
    """What the engine keeps no more is lost; all else is told, and what is known is not thrown away."""
    async with reading(kept=3) as (reader, publisher, seen):
        for number in range(1, 8):
            await publisher.send(number, arrives=number in (1, 7))
        await seen.until(7)
        assert seen.numbers == [0, 1, 5, 6, 7]
        assert reader.metrics() == {"tritium_kv_events_lost_total": 3, "tritium_kv_events_replayed_total": 2}


async def test_an_engine_that_replays_nothing_holds_up_nothing(monkeypatch):
    """Without an answer within the bound, what comes goes on being told."""
    monkeypatch.setattr(event_reader, "REPLAY_S", 0.05)
    async with reading() as (reader, publisher, seen):
        publisher.task.cancel()
        await publisher.send(4)
        await seen.until(4)
        assert seen.numbers == [0, 4]
        assert reader.lost == 3


@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it is imported
async def test_replays_of_vllm_itself():
    """vLLM's own publisher answers the reader's question."""
    from vllm.distributed.kv_events import BlockStored as Theirs  # noqa: PLC0415  it brings torch along
    from vllm.distributed.kv_events import KVEventBatch, ZmqEventPublisher  # noqa: PLC0415  as above

    reader, seen = EventReader(translate), Seen()
    reader.start(seen)
    publisher = ZmqEventPublisher(0, endpoint=reader.endpoint, replay_endpoint=reader.replay_endpoint)
    try:
        number = 0
        async with asyncio.timeout(60):
            while not seen.numbers:
                event = Theirs(
                    block_hashes=[number], parent_block_hash=None, token_ids=[1] * 32, block_size=32, lora_id=None,
                    medium="GPU", lora_name=None,
                )  # fmt: skip
                publisher.publish(KVEventBatch(ts=0.0, events=[event]))
                number += 1
                await asyncio.sleep(0.05)
        # Those published before the subscription had arrived were replayed.
        await seen.until(number - 1)
        assert seen.numbers == list(range(number))
        assert reader.lost == 0
    finally:
        publisher.shutdown()
        reader.close()
