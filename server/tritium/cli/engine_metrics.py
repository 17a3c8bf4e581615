"""The metrics that engines keep themselves, under their own names (vLLM's `vllm:*`), on the server's page."""

from collections.abc import Callable, Iterable, Iterator

from tritium.core.model import Model
from tritium.llm.model import LanguageModel
from tritium.observe.samples import Kind, MetricSource, Sample

_KINDS = {kind.value: kind for kind in Kind}


def engine_metrics(models: Callable[[], Iterable[Model]]) -> MetricSource:
    """Return the source of what the workers of all language models told last."""

    def samples() -> Iterator[Sample]:
        for model in models():
            if isinstance(model, LanguageModel):
                for own in (*model.fleet.own_metrics(), *model.tokenizer.stage_metrics(model.name)):
                    # An info family of the client library is a gauge in Prometheus' text form.
                    kind = _KINDS.get(own.kind, Kind.GAUGE)
                    yield Sample(own.family, own.value, own.labels, kind, own.help, own.suffix)

    return samples
