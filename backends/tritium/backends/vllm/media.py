"""Images, sounds and films for vLLM: files' bytes become what its processors take, in the order of the prompt."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tritium.backends.engine import Media
from tritium.core.errors import InvalidArgument

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

KINDS = ("image", "audio", "video")


def modalities_of(llm: "AsyncLLM") -> tuple[str, ...]:
    """Return the kinds of media that the loaded model takes at least one of."""
    processor = llm.renderer.mm_processor
    if processor is None:
        return ()
    limits = processor.info.allowed_mm_limits
    return tuple(kind for kind in KINDS if limits.get(kind))


def media_tokens_of(llm: "AsyncLLM") -> dict[str, int]:
    """Return the token that stands for each kind in a prompt, of the kinds whose token the model's configuration tells.

    vLLM puts as many of it in its place as the item is long. Prompts of models that put others between them, such as
    Pixtral's line breaks, are found up to their first item.
    """
    config, tokens = llm.model_config.hf_config, {}
    for kind in modalities_of(llm):
        names = (f"{kind}_token_id", f"{kind}_token_index")
        token = next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)
        if token is not None:
            tokens[kind] = token
    return tokens


def multi_modal_keys(media: Sequence[Media]) -> dict[str, list[str]]:
    """Return the names under which vLLM is to know media, by kind: of their content, and equal on all workers."""
    keys: dict[str, list[str]] = {}
    for item in media:
        keys.setdefault(item.kind, []).append(item.key)
    return keys


def multi_modal_data(media: Sequence[Media]) -> dict[str, list[Any]]:
    """Decode media by kind; this takes its time, so call it off the event loop.

    Raises:
        InvalidArgument: one of them is not what it says it is.
    """
    from vllm.multimodal.media import AudioMediaIO, ImageMediaIO, VideoMediaIO  # noqa: PLC0415  heavy; rarely needed

    image = ImageMediaIO()
    readers: dict[str, Any] = {"image": image, "audio": AudioMediaIO(), "video": VideoMediaIO(image)}
    decoded: dict[str, list[Any]] = {}
    for number, item in enumerate(media):
        try:
            decoded.setdefault(item.kind, []).append(readers[item.kind].load_bytes(item.data))
        except Exception as error:
            # Which exceptions the libraries for so many formats raise is theirs to say; the file is at fault in all.
            words = str(error) or type(error).__name__
            raise InvalidArgument(f"{item.kind} number {number} ({item.mime}) cannot be read: {words}") from error
    return decoded
