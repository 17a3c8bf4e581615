"""What became of every request of a run, in columns: 100,000s of them take a few dozen bytes each."""

from array import array
from collections import Counter

from tritium.simulation.request import Request


class Records:
    """The requests that ended, a row each in the order of their ends, and how many were refused."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.arrived_s = array("d")
        self.first_s = array("d")
        self.ended_s = array("d")
        self.prompt_tokens = array("q")
        self.cached_tokens = array("q")
        self.output_tokens = array("q")
        self.by_worker: Counter[str] = Counter()
        self.refusals = array("q")
        """The numbers of those that nobody served."""

    def __len__(self) -> int:
        """Return how many were served."""
        return len(self.numbers)

    def ended(
        self, request: Request, worker: str, *, arrived_s: float, first_s: float, ended_s: float, cached_tokens: int
    ) -> None:
        """Note a request that has all its tokens."""
        self.numbers.append(request.number)
        self.arrived_s.append(arrived_s)
        self.first_s.append(first_s)
        self.ended_s.append(ended_s)
        self.prompt_tokens.append(request.prompt_tokens)
        self.cached_tokens.append(cached_tokens)
        self.output_tokens.append(request.output_tokens)
        self.by_worker[worker] += 1

    def refused(self, request: Request) -> None:
        """Note a request that nobody served."""
        self.refusals.append(request.number)
