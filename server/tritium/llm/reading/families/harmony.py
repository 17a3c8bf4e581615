"""OpenAI's harmony, as gpt-oss writes it: messages on channels; a call is a message to a recipient.

<|channel|>analysis<|message|>THOUGHT<|end|>
<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>
<|start|>assistant<|channel|>final<|message|>ANSWER<|return|>
"""

import re
from collections.abc import Callable

from tritium.llm.reading.grammar import Scene, content, visible
from tritium.llm.reading.text import Wait, markers

_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")
MARKERS = ("<|channel|>", "<|constrain|>", _MESSAGE, *_ENDS)

_BEGINNINGS = ("<|channel|>", "<|start|>", _MESSAGE, "to=")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"to=([\w.:-]+)")
_FUNCTIONS = "functions."


def harmony(scene: Scene) -> Wait[None]:
    """Read messages until the text ends; a text that begins with none is content."""
    text, out = scene.text, scene.out
    text.mark()
    yield from text.space()
    begun = yield from text.accept(*_BEGINNINGS)
    text.rewind()
    if not begun:
        yield from content(scene)
        return
    last: Callable[[str], None] | None = None
    while True:
        text.mark()
        complete = yield from text.passing(markers(_MESSAGE), lambda _: None)
        header = text.release()
        if not complete:
            out.content(visible(header, MARKERS))
            return
        sink = _sink(scene, header)
        if sink != last:
            out.turn()
        elif not out.in_call:
            sink("\n")
        last = sink
        ended = yield from text.passing(markers(*_ENDS), sink)
        if out.in_call and ended:
            out.close()
        elif out.in_call:
            out.cut()


def _sink(scene: Scene, header: str) -> Callable[[str], None]:
    """Return where a message goes, by its header; a call is opened."""
    out = scene.out
    recipient = _RECIPIENT.search(header)
    if recipient is not None and recipient[1].startswith(_FUNCTIONS):
        out.open(recipient[1].removeprefix(_FUNCTIONS))
        return out.arguments
    channel = _CHANNEL.search(header)
    # What goes to a tool of the model's own (browser, python) is part of its thinking.
    thought = recipient is not None or (channel is not None and channel[1] == "analysis")
    return out.reasoning if thought else out.content
