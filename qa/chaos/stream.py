"""One streamed completion of an ordinary client: its text, when each part came, its usage, or how it failed."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Answer:
    """What came of one request. `error` is what the client was told or saw; without one the answer is whole."""

    text: str = ""
    times_s: list[float] = field(default_factory=list)
    """When each part of the text came, on the monotonic clock."""
    usage: dict[str, Any] = field(default_factory=dict)
    worker: str = ""
    """Where it was generated first."""
    finish: str = ""
    error: str = ""

    @property
    def gap_s(self) -> float:
        """Return the longest time between two parts."""
        return max((later - sooner for sooner, later in zip(self.times_s, self.times_s[1:], strict=False)), default=0.0)


async def complete(
    port: int, model: str, prompt: str, tokens: int, *, within_s: float, answer: Answer | None = None, **more: Any
) -> Answer:
    """Ask for a greedy completion of exactly so many tokens; `answer` may be given to be watched meanwhile.

    Raises:
        TimeoutError: it was neither answered nor failed within `within_s`: it hangs.
    """
    answer = answer or Answer()
    body = json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        | more
    ).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"x-tritium-explain: 1\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    async with asyncio.timeout(within_s):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            answer.error = f"{type(error).__name__}: {error}"
            return answer
        try:
            writer.write(head.encode() + body)
            await _read(reader, answer)
        except (OSError, asyncio.IncompleteReadError) as error:
            answer.error = answer.error or f"{type(error).__name__}: {error}"
        finally:
            writer.close()
    return answer


async def _read(reader: asyncio.StreamReader, answer: Answer) -> None:
    status = int((await _line(reader)).split()[1])
    while line := (await _line(reader)).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"x-tritium-worker":
            answer.worker = value.strip().decode()
    if status != 200:
        answer.error = f"{status}: {(await reader.read()).decode(errors='replace')}"
        return
    # Sizes of chunks come as lines of their own, which nobody takes for events.
    while not (line := await _line(reader)).startswith(b"data: [DONE]"):
        if line.startswith(b"data: "):
            _take(json.loads(line[6:]), answer)


def _take(event: dict[str, Any], answer: Answer) -> None:
    if "error" in event:
        answer.error = json.dumps(event["error"])
        return
    for choice in event.get("choices", ()):
        if choice.get("text"):
            answer.text += choice["text"]
            answer.times_s.append(time.monotonic())
        answer.finish = choice.get("finish_reason") or answer.finish
    answer.usage = event.get("usage") or answer.usage


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line:
        raise asyncio.IncompleteReadError(b"", None)
    return line
