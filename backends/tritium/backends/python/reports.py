"""The metrics that one process of a model defines and reports.

They belong to the instance, not to its process: one that is restarted goes on counting where it was.
"""

from collections import Counter

from tritium.backends.metrics import CustomMetric, CustomMetrics, MetricKind
from tritium.backends.python import frames

Word = frames.DefineFamily | frames.DefineMetric | frames.ReadMetric | frames.MetricChanged | frames.MetricDropped


class Reports:
    """What the numbers of a process's metrics stand for; made anew with it."""

    def __init__(self, owner: str, metrics: CustomMetrics) -> None:
        self._owner = owner
        self._metrics = metrics
        self._by_number: dict[int, CustomMetric] = {}
        self._handles: Counter[int] = Counter()
        """How many numbers stand for a metric, by its identity."""

    def take(self, word: Word) -> frames.Outcome | None:
        """Do what a message says, and return the answer to one that waits for it."""
        try:
            match word:
                case frames.DefineFamily(call, name, description, kind):
                    self._metrics.define_family(self._owner, name, description, MetricKind(kind))
                    return frames.Outcome(call)
                case frames.DefineMetric(call, family, _, labels, buckets):
                    metric = self._metrics.define(self._owner, family, labels, buckets)
                    self._by_number[call] = metric
                    self._handles[id(metric)] += 1
                    return frames.Outcome(call)
                case frames.ReadMetric(call, number):
                    return frames.Outcome(call, value=self._by_number[number].value)
                case frames.MetricChanged(number, verb, value):
                    self._change(self._by_number[number], verb, value)
                case frames.MetricDropped(number):
                    self._drop(self._by_number.pop(number))
        except ValueError as error:
            assert not isinstance(word, frames.MetricChanged | frames.MetricDropped)
            return frames.Outcome(word.call, str(error))
        return None

    def _change(self, metric: CustomMetric, verb: str, value: float) -> None:
        match verb:
            case "increment":
                metric.value += value
            case "set":
                metric.value = value
            case _:
                metric.observe(value)

    def _drop(self, metric: CustomMetric) -> None:
        self._handles[id(metric)] -= 1
        if not self._handles[id(metric)]:
            del self._handles[id(metric)]
            self._metrics.release(self._owner, metric)
