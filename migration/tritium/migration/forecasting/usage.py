"""How much a model of a running Triton is used: its statistics twice, so many seconds apart."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

_WAIT_S = 10.0


class NoStatistics(Exception):
    """The server does not tell statistics of the model."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What happened in `seconds`; `concurrency` is by Little's law, the rate times the mean duration."""

    seconds: float
    rate: float
    mean_s: float
    queue_share: float

    @property
    def concurrency(self) -> float:
        """Return how many requests were under way on average."""
        return self.rate * self.mean_s


@dataclass(frozen=True, slots=True)
class Counts:
    """What a server counted of a model since it was loaded."""

    requests: int
    total_ns: int
    queue_ns: int


def counts(statistics: Any) -> Counts:
    """Sum a model's versions up."""
    entries = [entry.get("inference_stats", {}) for entry in statistics.get("model_stats", [])]

    def total(part: str, field: str) -> int:
        return sum(int(entry.get(part, {}).get(field, 0)) for entry in entries)

    return Counts(total("success", "count"), total("success", "ns"), total("queue", "ns"))


def usage(before: Counts, after: Counts, seconds: float) -> Usage:
    """Return what happened between two counts."""
    requests, total_ns = after.requests - before.requests, after.total_ns - before.total_ns
    mean_s = total_ns / requests / 1e9 if requests > 0 else 0.0
    share = (after.queue_ns - before.queue_ns) / total_ns if total_ns > 0 else 0.0
    return Usage(seconds, max(0, requests) / seconds, mean_s, share)


def measure(url: str, model: str, seconds: float, wait: Callable[[float], None] = time.sleep) -> Usage:
    """Read a model's statistics, wait, and read them again.

    Raises:
        NoStatistics: the server does not answer, or has no such model.
    """
    began = time.monotonic()
    before = counts(_ask(url, model))
    wait(seconds)
    after = counts(_ask(url, model))
    return usage(before, after, max(time.monotonic() - began, 1e-3))


def _ask(url: str, model: str) -> Any:
    place = f"{url.rstrip('/')}/v2/models/{quote(model)}/stats"
    if not place.startswith(("http://", "https://")):
        raise NoStatistics(f"{url} is no URL: write http://host:8000, the HTTP port of Triton")
    try:
        with urllib.request.urlopen(place, timeout=_WAIT_S) as answer:  # noqa: S310  (the scheme is checked)
            return json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        raise NoStatistics(f"{place}: {error}; has that server a model {model}?") from error
    except (OSError, ValueError, HTTPException) as error:
        said = type(error).__name__ if isinstance(error, HTTPException) else getattr(error, "reason", error)
        raise NoStatistics(f"{place}: {said}; is this the HTTP port of Triton?") from error
