"""What other fronts have a worker do, in the load book of this one: leases like its own, given back when it is told so.

    Elsewhere: taken -> lease ---prefilled---> decoding ---over---> released          (the worker lost: all released)

A front's own requests are never among them, so that nothing counts twice (`cluster.workload` has the other side). From
theirs it learns as from its own how fast workers are, and what they hold where engines do not tell.
"""

import time

from tritium.cluster.frames import Elsewhere
from tritium.router.book import Lease
from tritium.router.router import Router


class OtherFronts:
    """The leases on one worker that others hold."""

    def __init__(self, router: Router, worker: str) -> None:
        self._router = router
        self._worker = worker
        self._leases: dict[int, Lease] = {}

    def __len__(self) -> int:
        """Return how many requests others have under way there."""
        return len(self._leases)

    def take(self, news: Elsewhere) -> None:
        """Take in what a worker tells."""
        router, now_s = self._router, time.monotonic()
        for taken in news.taken:
            if taken.id in self._leases:
                continue
            lease = router.share(
                self._worker,
                taken.blocks,
                prompt_blocks=taken.prompt_blocks,
                compute_blocks=taken.compute_blocks,
                max_tokens=taken.max_tokens,
                now_s=now_s,
            )
            if lease is not None:
                self._leases[taken.id] = lease
                if taken.prefilled:
                    router.book.prefilled(lease)
        for number in news.prefilled:
            if (lease := self._leases.get(number)) is not None:
                router.prefilled(lease, now_s=now_s)
        for number in news.over:
            if (lease := self._leases.pop(number, None)) is not None:
                router.release(lease)

    def close(self) -> None:
        """Give all of them back: the worker is gone, or no more chosen from."""
        for lease in self._leases.values():
            self._router.book.release(lease)
        self._leases.clear()
