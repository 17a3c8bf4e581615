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
