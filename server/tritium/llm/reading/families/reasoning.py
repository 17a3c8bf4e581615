"""How families mark what a model thinks before it answers."""

from dataclasses import dataclass

from tritium.llm.reading.grammar import Grammar, Scene, thinking
from tritium.llm.reading.text import Wait


@dataclass(frozen=True, slots=True)
class Thoughts:
    """Reasoning from one of `starts` to one of `ends`."""

    starts: tuple[str, ...]
    ends: tuple[str, ...]
    implied: bool = False
    """Whether a text that begins with no start marker is reasoning too, unless the prompt has ended it."""
    until_call: bool = False
    """Whether a call ends it as well."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Return all that may be special tokens."""
        return self.starts + self.ends

    def begun_in(self, prompt: str) -> bool | None:
        """Tell from the end of a prompt whether reasoning has begun there, or ended; None where it says neither."""
        tail = prompt.rstrip()
        if tail.endswith(self.starts):
            return True
        return False if tail.endswith(self.ends) else None

    def continued_in(self, prompt: str) -> bool | None:
        """Tell the same of a prompt that ends within the model's own text."""
        started = max(prompt.rfind(start) for start in self.starts)
        ended = max(prompt.rfind(end) for end in self.ends)
        return None if started == ended else started > ended

    def read(self, scene: Scene, then: Grammar, *, begun: bool | None, calls: tuple[str, ...]) -> Wait[None]:
        """Read reasoning, then the rest by `then`; `calls` are the openers of calls."""
        text = scene.text
        text.mark()
        yield from text.space()
        started = begun is not False and bool((yield from text.accept(*self.starts)))
        if started or begun or (self.implied and begun is None):
            text.release()
            also = calls if self.until_call else ()
            yield from thinking(scene, self.ends, then, also=also)
        else:
            text.rewind()
            yield from then(scene)


_THINK = ("<think>",), ("</think>",)
DEEPSEEK_R1 = Thoughts(*_THINK, implied=True)
QWEN_3 = Thoughts(*_THINK, until_call=True)
MISTRAL = Thoughts(("[THINK]", "<think>"), ("[/THINK]", "</think>"), until_call=True)
SEED_OSS = Thoughts(("<seed:think>",), ("</seed:think>",), until_call=True)
GRANITE = Thoughts(
    ("Here is my thought process:", "Here's my thought process:"), ("Here is my response:", "Here's my response:")
)
