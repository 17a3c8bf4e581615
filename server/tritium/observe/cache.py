"""Metrics of the response cache in the server's memory, with the names that Triton's local cache gives them."""

import time
from collections.abc import Iterator

from tritium.core.cache.entry import Entry
from tritium.core.cache.store import Found, Insertion, LocalStore
from tritium.observe.samples import Sample


class CountedStore:
    """A store that counts what is asked of it and how long that takes; see `core.cache.store.Store`."""

    shared = False

    def __init__(self, store: LocalStore, size_bytes: int) -> None:
        self._store = store
        self._size_bytes = size_bytes
        self.hits = 0
        self.misses = 0
        self.lookup_ns = 0
        self.insertion_ns = 0

    def lookup(self, key: bytes, found: Found) -> None:
        """Look for an entry."""
        began_ns = time.perf_counter_ns()

        def count(entry: Entry | None) -> None:
            self.lookup_ns += time.perf_counter_ns() - began_ns
            if entry is None:
                self.misses += 1
            else:
                self.hits += 1
            found(entry)

        self._store.lookup(key, count)

    def insert(self, key: bytes, entry: Entry) -> Insertion:
        """Keep an entry."""
        began_ns = time.perf_counter_ns()
        insertion = self._store.insert(key, entry)
        self.insertion_ns += time.perf_counter_ns() - began_ns
        return insertion

    def samples(self) -> Iterator[Sample]:
        """Yield what was counted, and what is kept now."""
        lookups = self.hits + self.misses
        for name, value, text in (
            ("nv_cache_util", self._store.used_bytes / self._size_bytes, "Cache utilization [0.0 - 1.0]"),
            ("nv_cache_num_entries", len(self._store), "Number of responses stored in response cache"),
            ("nv_cache_num_hits", self.hits, "Number of cache hits in response cache"),
            ("nv_cache_num_misses", self.misses, "Number of cache misses in response cache"),
            ("nv_cache_num_lookups", lookups, "Number of cache lookups in response cache"),
            ("nv_cache_num_evictions", self._store.evictions, "Number of cache evictions in response cache"),
            (
                "nv_cache_lookup_duration",
                self.lookup_ns // 1000,
                "Total cache lookup duration (hit and miss), in microseconds",
            ),
            (
                "nv_cache_insertion_duration",
                self.insertion_ns // 1000,
                "Total cache insertion duration, in microseconds",
            ),
        ):
            yield Sample(name, value, help=text)
