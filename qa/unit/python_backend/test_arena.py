"""Shared memory between two ends, here both in one process: what is stored is seen, freed, and used again."""

import gc
import os
import random
from itertools import pairwise

import numpy as np
import pytest

from tritium.backends.python import arena
from tritium.backends.python.arena import MIN_SEGMENT_BYTES, PAGE, InArena, OutArena


@pytest.fixture
def ends():
    fd = arena.create("test")
    freed_early = []
    incoming = InArena(os.dup(fd), lambda: freed_early.append(True))
    outgoing = OutArena(fd, incoming.grow)
    outgoing.freed_early = freed_early
    yield outgoing, incoming
    outgoing.close()
    incoming.close()


def test_stored_bytes_are_seen(ends):
    """Bytes of any size arrive as they are, empty ones and those larger than a segment included."""
    outgoing, incoming = ends
    for size in (0, 1, PAGE, PAGE + 1, MIN_SEGMENT_BYTES, 3 * MIN_SEGMENT_BYTES + 7):
        data = np.random.default_rng(size).bytes(size)
        assert data == incoming.array(outgoing.store(data)).tobytes()


def test_any_buffer_can_be_stored(ends):
    """A memoryview of another type or of several dimensions is stored as its bytes."""
    outgoing, incoming = ends
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    assert array.tobytes() == incoming.array(outgoing.store(memoryview(array))).tobytes()
    assert incoming.array(outgoing.store(bytearray(b"xyz"))).tobytes() == b"xyz"


def test_freed_when_the_last_view_dies(ends):
    """An allocation is reported once, when the array, its slices and memoryviews of it are all gone."""
    outgoing, incoming = ends
    array = incoming.array(outgoing.store(b"a" * 100))
    part, view = array[10:20].reshape(2, 5), array.data[3:]
    del array
    assert (incoming.take_freed(), incoming.held) == ([], 1)
    del part
    assert incoming.take_freed() == []
    assert view[:1] == b"a"
    del view
    assert (incoming.take_freed(), incoming.held) == ([PAGE * 2], 0)
    assert incoming.take_freed() == []


def test_memory_is_used_again(ends):
    """One tensor at a time, freed each time, never needs a second segment."""
    outgoing, incoming = ends
    for _ in range(50):
        for size in (1 << 20, 2 << 20):
            assert not incoming.array(outgoing.store(bytes(size))).any()
        outgoing.give_back(incoming.take_freed())
    assert outgoing.used_bytes == 0
    assert os.fstat(outgoing._segments.fd).st_size <= MIN_SEGMENT_BYTES + 3 * PAGE


def test_many_freed_are_announced(ends):
    """When several allocations wait to be reported, the receiver is told to report them."""
    outgoing, incoming = ends
    arrays = [incoming.array(outgoing.store(b"x")) for _ in range(arena.MANY_FREED)]
    arrays.pop()
    assert not outgoing.freed_early
    arrays.clear()
    assert outgoing.freed_early


@pytest.mark.parametrize("seed", range(20))
def test_random_use(ends, seed):
    """Whatever is stored and freed, in whatever order: no two live regions overlap, and none changes."""
    outgoing, incoming = ends
    dice = random.Random(seed)
    live = {}
    for _ in range(300):
        if live and dice.random() < 0.5:
            start = dice.choice(list(live))
            array, data = live.pop(start)
            assert data == array.tobytes()
            del array
            assert [start] == incoming.take_freed()
            outgoing.give_back([start])
        else:
            data = dice.randbytes(dice.choice((1, 100, PAGE, 3 * PAGE, 1 << 20, dice.randrange(1, 3 << 20))))
            region = outgoing.store(data)
            assert region.start not in live
            live[region.start] = incoming.array(region), data
    spans = sorted((start, start + len(data)) for start, (_, data) in live.items())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for array, data in live.values():
        assert data == array.tobytes()


def test_lending(ends):
    """What arrived can be lent back in place; the sender's view of it frees it."""
    outgoing, incoming = ends
    array = incoming.array(outgoing.store(np.arange(1000, dtype=np.float32)))
    middle = array.view(np.float32)[10:20]
    region = incoming.lend(middle)
    assert middle.tobytes() == bytes(outgoing._segments.view(region.offset, region.size))
    assert incoming.lend(array) is None, "lent already"
    del array, middle
    assert incoming.settle(region) is None
    assert incoming.take_freed() == []
    echo = outgoing.echo(region)
    assert list(range(10, 20)) == echo.view(np.float32).tolist()
    assert outgoing.used_bytes
    del echo
    assert outgoing.used_bytes == 0


def test_lending_what_is_kept(ends):
    """What is lent but still referred to is not left to the sender: it is freed when it is let go."""
    outgoing, incoming = ends
    kept = incoming.array(outgoing.store(b"x" * 100))
    region = incoming.lend(kept[5:])
    assert len(incoming.settle(region)) == 95
    del kept
    assert [region.start] == incoming.take_freed()


def test_lending_that_is_undone(ends):
    """A lent region that will not be sent is freed, whenever its last reference dies."""
    outgoing, incoming = ends
    for drop_first in (True, False):
        array = incoming.array(outgoing.store(b"x" * 100))
        region = incoming.lend(array)
        if drop_first:
            del array
            incoming.keep(region)
        else:
            incoming.keep(region)
            del array
        assert [region.start] == incoming.take_freed()
        outgoing.give_back([region.start])


def test_only_arrivals_can_be_lent(ends):
    """Arrays of the model's own are not taken for arrivals."""
    _, incoming = ends
    assert incoming.lend(np.zeros(100)) is None
    assert incoming.lend(np.zeros(100)[3:]) is None


def test_memory_goes_back_to_the_machine(ends, monkeypatch):
    """A large arena that stands empty gives its pages back, and works on."""
    outgoing, incoming = ends
    array = incoming.array(outgoing.store(b"x" * (arena.KEEP_BYTES + 1)))
    blocks = os.fstat(outgoing._segments.fd).st_blocks
    del array
    monkeypatch.setattr(arena, "TRIM_AFTER_S", 0.0)
    outgoing.give_back(incoming.take_freed())
    outgoing.reclaim()
    assert blocks > 100 * os.fstat(outgoing._segments.fd).st_blocks
    assert incoming.array(outgoing.store(b"y" * 9)).tobytes() == b"y" * 9


def test_views_outlive_the_arena(ends):
    """An array that is still referred to is readable after both ends are closed, and then leaves nothing behind."""
    fd = arena.create("short")
    incoming = InArena(os.dup(fd), lambda: None)
    outgoing = OutArena(fd, incoming.grow)
    array = incoming.array(outgoing.store(b"still here"))
    outgoing.close()
    incoming.close()
    del outgoing
    gc.collect()
    assert array.tobytes() == b"still here"


def test_large_allocations_keep_no_memory(ends, monkeypatch):
    """What a large allocation held goes back to the machine as soon as it is freed, and neighbours keep theirs."""
    monkeypatch.setattr(arena, "LARGE_BYTES", 4 * PAGE)
    outgoing, incoming = ends
    small, large = outgoing.store(b"s" * PAGE), outgoing.store(b"l" * (64 * PAGE))
    before = os.fstat(incoming._segments.fd).st_blocks
    outgoing.give_back([large.start])
    outgoing.reclaim()
    assert before - os.fstat(incoming._segments.fd).st_blocks == 64 * PAGE // 512
    assert incoming.array(small).tobytes() == b"s" * PAGE
    assert incoming.array(outgoing.store(b"n" * (64 * PAGE))).tobytes() == b"n" * (64 * PAGE)


def test_large_allocations_are_announced_when_freed(monkeypatch):
    """The sender hears of a freed large tensor at once, be it dropped by the receiver or, handed back, by itself."""
    monkeypatch.setattr(arena, "LARGE_BYTES", PAGE)
    fd = arena.create("announced")
    told = []
    incoming = InArena(os.dup(fd), lambda: told.append("receiver"))
    outgoing = OutArena(fd, incoming.grow, lambda: told.append("sender"))
    array = incoming.array(outgoing.store(b"a" * (2 * PAGE)))
    del array
    assert told == ["receiver"]
    view = outgoing.echo(outgoing.store(b"b" * (2 * PAGE)))
    del view
    assert told == ["receiver", "sender"]
    outgoing.close()
    incoming.close()


def test_what_the_machine_cannot_hold_is_refused(ends, monkeypatch):
    """An allocation beyond the memory that is left is an error of its own request; the arena goes on."""
    outgoing, incoming = ends
    monkeypatch.setattr(arena, "ASK_BYTES", PAGE)
    monkeypatch.setattr(arena, "room_bytes", lambda: 8 << 20)
    with pytest.raises(OSError, match="no room for 9437184 bytes more"):
        outgoing.store(bytes(9 << 20))
    assert incoming.array(outgoing.store(b"x" * (5 << 20))).nbytes == 5 << 20
