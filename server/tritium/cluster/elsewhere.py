"""What other fronts have a worker do, in the load book of this one: leases like its own, given back when it is told so.

    Elsewhere: taken -> lease ---prefilled---> decoding ---over---> released          (the worker lost: all released)

A front's own requests are never among them, so that nothing counts twice (`cluster.workload` has the other side).
"""

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
        book = self._router.book
        for taken in news.taken:
            if taken.id in self._leases:
                continue
            lease = self._router.share(
                self._worker,
                taken.blocks,
                prompt_blocks=taken.prompt_blocks,
                compute_blocks=taken.compute_blocks,
                max_tokens=taken.max_tokens,
            )
            if lease is not None:
                self._leases[taken.id] = lease
                if not taken.compute_blocks:
                    book.prefilled(lease)
        for number in news.prefilled:
            if (lease := self._leases.get(number)) is not None:
                book.prefilled(lease)
        for number in news.over:
            if (lease := self._leases.pop(number, None)) is not None:
                book.release(lease)

    def close(self) -> None:
        """Give all of them back: the worker is gone, or no more chosen from."""
        for lease in self._leases.values():
            self._router.book.release(lease)
        self._leases.clear()
