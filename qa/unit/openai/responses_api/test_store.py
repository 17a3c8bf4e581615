import time

import pytest

from tritium.openai.errors import NothingKept
from tritium.openai.responses_api.items import ItemReference, MessageItem, OutputText
from tritium.openai.responses_api.schema import ResponseObject
from tritium.openai.responses_api.store import Kept, ResponseStore


def _kept(name, text="x", before=(), owner=b""):
    output = [MessageItem("assistant", [OutputText(text)], f"msg_{name}", "completed")]
    response = ResponseObject(id=name, created_at=0, model="m", status="completed", output=output)
    return Kept(response, before, [MessageItem("user", text, f"in_{name}")], owner)


def test_longest_unused_goes_first():
    """Beyond the number of responses, the one that was not asked for the longest is forgotten."""
    store = ResponseStore(2, 1 << 20)
    store.put(_kept("a"))
    store.put(_kept("b"))
    store.get("a", b"")
    store.put(_kept("c"))
    assert store.get("a", b"")
    assert store.get("c", b"")
    with pytest.raises(NothingKept, match="'b' not found"):
        store.get("b", b"")


def test_bytes_are_bounded():
    """Large responses push out others; one that is larger than all there is room for is not kept."""
    store = ResponseStore(100, 10_000)
    for n in range(20):
        store.put(_kept(f"r{n}", "x" * 1_000))
    assert store.size_bytes <= 10_000
    assert 1 < len(store) < 20
    store.put(_kept("huge", "x" * 20_000))
    with pytest.raises(NothingKept):
        store.get("huge", b"")
    for n in range(20):
        with pytest.raises(NothingKept):
            store.remove(f"r{n}", b"other")
    left = len(store)
    assert left > 1


def test_long_conversation_is_bounded():
    """A conversation that goes on and on counts with all that was said, also when its beginnings are forgotten."""
    store = ResponseStore(100, 10_000)
    before = []
    for n in range(30):
        kept = _kept(f"r{n}", "x" * 1_000, before=before)
        before = kept.conversation
        store.put(kept)
        assert store.size_bytes <= 10_000
    with pytest.raises(NothingKept):
        store.get("r29", b"")


def test_references():
    """A reference stands for the latest item of its id, among one's own; many cost one look through all."""
    store = ResponseStore(2_000, 1 << 24)
    for n in range(1_000):
        store.put(_kept(f"r{n}"))
    store.put(_kept("theirs", owner=b"other"))
    again = _kept("r1000")
    again.input[0].id = "in_r0"
    store.put(again)
    new = MessageItem("user", "now", "new")
    found = store.resolve([ItemReference("msg_r1"), new, ItemReference("in_r0")], b"")
    assert [item.id for item in found] == ["msg_r1", "new", "in_r0"]
    assert found[2] is again.input[0]
    began_s = time.thread_time()
    assert len(store.resolve([ItemReference("msg_r1")] * 20_000, b"")) == 20_000
    assert time.thread_time() - began_s < 10  # one look each would take minutes
    with pytest.raises(NothingKept, match="msg_theirs"):
        store.resolve([ItemReference("msg_theirs")], b"")


def test_put_again_replaces():
    """A response that is put again counts once."""
    store = ResponseStore(10, 1 << 20)
    store.put(_kept("a", "x" * 500))
    store.put(_kept("a", "x"))
    assert len(store) == 1
    assert store.size_bytes < 1_000
    store.remove("a", b"")
    assert (len(store), store.size_bytes) == (0, 0)


def test_nothing_is_kept_where_none_may_be():
    """With room for no response the store stays empty."""
    store = ResponseStore(0, 1 << 20)
    store.put(_kept("a"))
    assert len(store) == 0


def test_conversation_outlives_what_came_before():
    """A response knows all that was said before it, also when earlier responses are forgotten."""
    store = ResponseStore(1, 1 << 20)
    first = _kept("a", "one")
    store.put(first)
    store.put(_kept("b", "two", before=first.conversation))
    texts = [item.id for item in store.get("b", b"").conversation]
    assert texts == ["in_a", "msg_a", "in_b", "msg_b"]
