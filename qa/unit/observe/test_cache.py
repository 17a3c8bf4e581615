"""Metrics of the response cache in memory."""

from tritium.core.cache.entry import Entry, entry_of
from tritium.core.cache.store import LocalStore
from tritium.core.request import InferResponse
from tritium.core.tensor import Tensor
from tritium.observe.cache import CountedStore


def entry(size: int) -> Entry:
    """Return what is kept of a response."""
    return entry_of(InferResponse("m", "1", outputs=[Tensor("O", "UINT8", (size,), bytes(size))]))


def test_a_cache_is_counted_as_triton_counts() -> None:
    """What was looked for, what was found, what had to go, and how full it is."""
    size = entry(10).size_bytes
    store = CountedStore(LocalStore(2 * size), 2 * size)
    found: list[Entry | None] = []
    store.lookup(b"a", found.append)
    for key in (b"a", b"b", b"c"):
        store.insert(key, entry(10))
    store.lookup(b"c", found.append)
    store.lookup(b"a", found.append)
    assert [one is not None for one in found] == [False, True, False]
    values = {sample.family: sample.value for sample in store.samples()}
    assert values.pop("nv_cache_lookup_duration") >= 0
    assert values.pop("nv_cache_insertion_duration") >= 0
    assert values == {
        "nv_cache_util": 1.0,
        "nv_cache_num_entries": 2,
        "nv_cache_num_hits": 1,
        "nv_cache_num_misses": 2,
        "nv_cache_num_lookups": 3,
        "nv_cache_num_evictions": 1,
    }
