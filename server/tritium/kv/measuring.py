"""What loads from each tier take: learnt from those that were asked for, and from some read beside them.

A tier that is not loaded from for a while is measured with blocks that it holds, so that advice about it is neither
missing nor old, and no prompt pays for that.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from tritium.kv.advice import Advice, Advisor
from tritium.kv.background import Background
from tritium.kv.block import Tier
from tritium.kv.holdings import Holdings
from tritium.kv.level import Source

# So many blocks are read of a tier: two sizes make a line.
_MEASURED_WITH = (1, 4)


class Measuring:
    """An advisor that many threads teach and ask, and that has tiers measured when they were not used."""

    def __init__(self, holdings: Holdings, advisor: Advisor, background: Background, every_s: float) -> None:
        self.advisor = advisor
        self.ordering = False
        """Whether what tiers took says which is asked first: of our own it is known which is below which."""
        self._holdings = holdings
        self._background = background
        self._every_s = every_s
        self._lock = threading.Lock()
        self._loaded_at: dict[Tier, float] = {}
        self._under_way = False
        self._closed = False

    def advise(self, prompt_tokens: int, tiers: Sequence[Tier]) -> Advice:
        """Return how many leading blocks of a prompt, held in these tiers, to load."""
        with self._lock:
            return self.advisor.advise(prompt_tokens, tiers)

    def learn_prefill(self, tokens: int, seconds: float) -> None:
        """Take in how long the engine took to compute a prompt of so many tokens."""
        with self._lock:
            self.advisor.learn_prefill(tokens, seconds)

    def learn_load(self, tier: Tier, size_bytes: int, seconds: float) -> None:
        """Take in how long loading so many bytes at once took."""
        with self._lock:
            self.advisor.learn_load(tier, size_bytes, seconds)
            self._loaded_at[tier] = time.monotonic()
            order = self.advisor.fastest_first()
        if self.ordering:
            self._holdings.order(order)

    def measure(self) -> None:
        """Begin to read some blocks of tiers that were not loaded from of late, if there are any."""
        since = time.monotonic() - self._every_s
        held = [source.tier for source in self._holdings.sources if len(source.shelf)]
        with self._lock:
            tiers = {tier for tier in held if self._loaded_at.get(tier, float("-inf")) < since}
            if not tiers or self._under_way or self._closed:
                return
            self._under_way = True
        with suppress(RuntimeError):  # the store is being closed: nobody will ask
            self._background.run(partial(self._measure_all, tiers))

    def close(self) -> None:
        """Begin to read nothing more."""
        with self._lock:
            self._closed = True

    def _measure_all(self, tiers: set[Tier]) -> None:
        try:
            for source in list(self._holdings.sources):
                for blocks in _MEASURED_WITH if source.tier in tiers else ():
                    self._measure_once(source, blocks)
        finally:
            with self._lock:
                self._under_way = False

    def _measure_once(self, source: Source, blocks: int) -> None:
        found = self._holdings.sample(source, blocks)
        try:
            entries = [one.entry for one in found]
            into = [memoryview(bytearray(entry.size_bytes)) for entry in entries]
            started = time.perf_counter()
            read = source.read(entries, into) if entries else [None]
            seconds = time.perf_counter() - started
        finally:
            self._holdings.release(found)
        if None not in read:
            self.learn_load(source.tier, sum(entry.size_bytes for entry in entries), seconds)
