"""The media of a conversation: found in its messages' parts in their order, decoded or fetched.

{"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}    input_image: the URL itself
{"type": "input_audio", "input_audio": {"data": "...", "format": "wav"}}    audio_url, video_url: as image_url
"""

import asyncio
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from tritium.backends.engine import Media
from tritium.llm.conversation import MEDIA, MediaKind
from tritium.llm.errors import FieldRefused
from tritium.openai.media.fetch import FetchRefused, fetch
from tritium.openai.media.policy import MediaPolicy

_LARGE = 1 << 20
"""Above this, base64 is decoded in a thread."""
_AT_A_TIME = 4
"""How many files of a request are decoded or fetched at a time: what these hold is not counted yet."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One file: what it is, where it is, and which field says so."""

    kind: MediaKind
    url: str
    where: str


class MediaOf:
    """Collects the media of one conversation; `take` is handed its parts that are no text, in their order."""

    def __init__(self, model: str, modalities: Sequence[str], policy: MediaPolicy) -> None:
        self._model = model
        self._modalities = modalities
        self._policy = policy
        self._found: list[_Found] = []
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self._bytes = 0

    def take(self, part: dict[str, Any], where: str) -> None:
        """Take a part.

        Raises:
            FieldRefused: the model takes none of its kind, or it is written wrongly.
        """
        kind = MEDIA.get(str(part.get("type")))
        if kind is None:
            raise FieldRefused(where, f"{where} is of type {part.get('type')!r}, which is no part of a message here")
        if kind not in self._modalities:
            takes = ", ".join(["text", *self._modalities])
            raise FieldRefused(where, f"{where} is {_an(kind)}: the model `{self._model}` takes {takes}")
        if len(self._found) >= self._policy.most_items:
            raise FieldRefused(where, f"a request has at most {self._policy.most_items} images, sounds and films")
        self._found.append(_Found(kind, _url(part, where), where))

    async def media(self) -> list[Media]:
        """Return the media in the order of their parts.

        Raises:
            FieldRefused: one of them cannot be decoded, or not be fetched, or they are too large together.
        """
        if not self._found:
            return []
        tasks = [asyncio.ensure_future(self._counted(one)) for one in self._found]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _counted(self, found: _Found) -> Media:
        async with self._turns:
            media = await self._load(found)
        self._bytes += len(media.data)
        most = max(self._policy.most_bytes, self._policy.most_bytes_in_all)
        if self._bytes > most:
            raise FieldRefused(found.where, f"{found.where}: the files of the request come to more than {most} bytes")
        return media

    async def _load(self, found: _Found) -> Media:
        if found.url[:5].lower() == "data:":
            if len(found.url) > _LARGE:
                return await asyncio.to_thread(_decoded, found, self._policy.most_bytes)
            return _decoded(found, self._policy.most_bytes)
        try:
            fetched = await fetch(found.url, self._policy)
        except FetchRefused as refused:
            raise FieldRefused(
                found.where, f"{found.where}: {_shown(found.url)}: {refused.message}", refused.hint
            ) from None
        if not fetched.data:
            raise FieldRefused(found.where, f"{found.where}: {_shown(found.url)}: it is empty")
        return Media(found.kind, fetched.mime, fetched.data)


def _url(part: dict[str, Any], where: str) -> str:
    """Return where a part's file is; sound that is sent along becomes a data: URL."""
    kind = str(part["type"])
    field = "image_url" if kind == "input_image" else kind
    held = part.get(field)
    if kind == "input_audio":
        if not isinstance(held, dict) or not isinstance(held.get("data"), str):
            raise FieldRefused(f"{where}.input_audio", f"{where}.input_audio needs data and format")
        return f"data:audio/{held.get('format', 'wav')};base64,{held['data']}"
    url = held.get("url") if isinstance(held, dict) else held
    if not isinstance(url, str) or not url:
        raise FieldRefused(f"{where}.{field}", f"{where}.{field} needs a url")
    return url


def _decoded(found: _Found, most_bytes: int) -> Media:
    head, comma, text = found.url[5:].partition(",")
    if not comma:
        raise FieldRefused(found.where, f"{found.where}: a data: URL has a comma before its data")
    mime, *options = head.split(";")
    # Four characters of base64 are three bytes.
    if len(text) > most_bytes * 4 // 3 + 4:
        raise FieldRefused(found.where, f"{found.where}: it is larger than {most_bytes} bytes")
    try:
        data = binascii.a2b_base64(text) if "base64" in options else unquote_to_bytes(text)
    except (binascii.Error, ValueError) as error:
        raise FieldRefused(found.where, f"{found.where}: its base64 cannot be read: {error}") from None
    if not data or len(data) > most_bytes:
        raise FieldRefused(
            found.where, f"{found.where}: it is empty" if not data else f"{found.where}: it is too large"
        )
    return Media(found.kind, mime.lower(), data)


def _an(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _shown(url: str) -> str:
    """Return a URL as a message may show it: without who is let in by it, and short."""
    shown = url.partition("?")[0].rpartition("@")[2]
    return shown if len(shown) <= 100 else shown[:100] + "..."
