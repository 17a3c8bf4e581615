"""Reading input tensors: text, truth values, and images in base64."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from tritium.backends.engine import EngineInfo, Media
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)


def text_of(request: InferRequest, name: str) -> str | None:
    """Return the first string of an input, if the request has it.

    Raises:
        InvalidArgument: it is not UTF-8.
    """
    tensor = request.input(name)
    found = strings_of(tensor) if tensor is not None else []
    return found[0] if found else None


def strings_of(tensor: Tensor) -> list[str]:
    """Return all strings of a BYTES tensor.

    Raises:
        InvalidArgument: one is not UTF-8.
    """
    return [text_from(raw, tensor.name) for raw in tensor.array().ravel()]


def text_from(raw: Any, name: str) -> str:
    """Return the text of one element of the input of that name.

    Raises:
        InvalidArgument: it is not UTF-8.
    """
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"'{name}' is not UTF-8 text: {error.reason} at byte {error.start}") from None


def truth_of(request: InferRequest, name: str) -> bool | None:
    """Return the first truth value of an input, if the request has it."""
    tensor = request.input(name)
    return bool(tensor.array().ravel()[0]) if tensor is not None and tensor.size_bytes else None


def images_of(request: InferRequest, name: str, info: EngineInfo) -> list[Media]:
    """Return the images of an input of base64 strings; an empty string is none.

    Raises:
        Unsupported: the model takes no images.
        InvalidArgument: an element is not base64, or not an image.
    """
    tensor = request.input(name)
    return images_from([raw for raw in tensor.array().ravel() if raw], name, info) if tensor is not None else []


def images_from(encoded: Sequence[bytes], name: str, info: EngineInfo) -> list[Media]:
    """Return images that came in base64 in the input of that name.

    Raises:
        Unsupported: the model takes no images.
        InvalidArgument: one is not base64, or not an image.
    """
    if encoded and "image" not in info.modalities:
        takes = ", ".join(info.modalities)
        raise Unsupported(
            f"images are not served by this model{f', which takes {takes}' if takes else ''}",
            hint=f"leave the input '{name}' out",
        )
    return [_image(raw, f"{name}[{index}]") for index, raw in enumerate(encoded)]


def _image(raw: bytes, where: str) -> Media:
    try:
        data = base64.b64decode(raw, validate=False)
    except binascii.Error as error:
        raise InvalidArgument(f"{where} is not base64: {error}") from None
    return Media("image", mime_of(data, where), data)


def mime_of(data: bytes, where: str) -> str:
    """Return the media type of an image by its first bytes.

    Raises:
        InvalidArgument: they are of no kind of image that is known.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    found = next((mime for signature, mime in _SIGNATURES if data.startswith(signature)), "")
    if not found:
        raise InvalidArgument(f"{where} is no image: not PNG, JPEG, GIF, BMP, TIFF or WebP")
    return found
