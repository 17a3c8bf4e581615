"""Several models that are one language model: TensorRT-LLM's and FasterTransformer's layouts, told by what they are.

ensemble -> preprocessing, tensorrt_llm, postprocessing   and beside them tensorrt_llm_bls, which calls the three
"""

from collections.abc import Iterator, Sequence

from tritium.compat.config.defaults import ENSEMBLE
from tritium.migration.finding import Group
from tritium.migration.found import Found
from tritium.migration.kinds import ENGINE_PARAMETERS

_ENGINES = {"tensorrtllm", "tensorrt_llm", "fastertransformer"}
_ADVICE = (
    "answer which checkpoint the engine was built from, and plan --unsafe=M03 makes one model of all of them; "
    "it tokenizes itself, and the names with text_input and text_output stay"
)


def language_models(models: Sequence[Found]) -> Iterator[Group]:
    """Find the ensembles around a language model's engine, each with the models of its repository that belong to it."""
    for ensemble in models:
        around = {m.name: m for m in models if m.repository is not None and m.repository == ensemble.repository}
        parts = [around[name] for name in ensemble.members if name in around]
        engines = [part.name for part in parts if part.backend in _ENGINES]
        engines = engines or [part.name for part in parts if _has_engine(part)]
        if ensemble.backend != ENSEMBLE or not engines or len(parts) < 2:
            continue
        callers = [m for m in around.values() if _calls(m, engines, parts) and m is not ensemble]
        members = tuple(dict.fromkeys(m.name for m in (ensemble, *parts, *callers)))
        message = f"{', '.join(members)} are one language model around {' and '.join(engines)}"
        yield Group(ensemble.name, ensemble.place.parent.parent, members, "M03", message, _ADVICE)


def _has_engine(model: Found) -> bool:
    return bool(ENGINE_PARAMETERS.search(model.parsed.places.source.text))


def _calls(model: Found, engines: Sequence[str], parts: Sequence[Found]) -> bool:
    """Tell whether a model is the engine's business logic: by its name, or since it names the engine's model."""
    if model in parts or model.backend == ENSEMBLE:
        return False
    text = model.parsed.places.source.text
    return model.name.endswith("_bls") or any(f'"{engine}"' in text or f"'{engine}'" in text for engine in engines)
