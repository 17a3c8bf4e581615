"""What a fleet refuses before any worker sees it, in words that name the model."""

from tritium.backends.engine import GENERATE, EngineInfo
from tritium.cluster.fleet import GenerationRequest
from tritium.core.errors import InvalidArgument


def check(request: GenerationRequest, info: EngineInfo, model: str) -> None:
    """Refuse a generation that no worker of the model could take.

    Raises:
        InvalidArgument: an empty prompt, one beyond the context, or what the loaded model does not do.
    """
    tokens = len(request.token_ids)
    if GENERATE not in info.tasks:
        raise InvalidArgument(
            f"model '{model}' does not generate: its engine {info.engine} loaded it to {', '.join(info.tasks)}"
        )
    for kind in {media.kind for media in request.media}.difference(info.modalities):
        takes = f"it takes {', '.join(info.modalities)}" if info.modalities else "it takes text alone"
        raise InvalidArgument(f"model '{model}' takes no {kind}: {takes}")
    if not tokens:
        raise InvalidArgument("the prompt is empty")
    if tokens >= info.context_tokens:
        raise InvalidArgument(
            f"the prompt has {tokens} tokens; the model's context is {info.context_tokens},"
            " of which at least one must be left to generate"
        )
