"""What one request asks of a model: prompts, how to sample, and how what comes back is read and told."""

from collections.abc import Sequence
from dataclasses import dataclass

from tritium.backends.engine import FinishReason, Media
from tritium.llm.models import Served
from tritium.llm.reading.reading import Reading
from tritium.llm.sampling import Sampling
from tritium.openai.details import NO_DETAILS, Details

MOST_COMPLETIONS = 1_024
"""How many completions one request may have, of all its prompts together."""

TOOL_CALLS = "tool_calls"
"""The finish reason of a completion that ended by itself and holds calls."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; `echo` is the text that goes before its completions."""

    token_ids: list[int]
    echo: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What one HTTP request asks of a model. `prompt_field` names the field that held the prompts.

    `reading` takes reasoning and tool calls out of the text; None where all of it is content.
    """

    served: Served
    prompts: Sequence[Prompt]
    sampling: Sampling
    prompt_field: str
    cache_salt: str = ""
    priority: int = 0
    reading: Reading | None = None
    media: Sequence[Media] = ()
    """What the prompts refer to, in the order of their placeholders."""
    details: Details = NO_DETAILS
    functions: bool = False
    """Whether the client knows tool calls by their older name, function calls, of which there is one an answer."""
    named: bool = False
    """Whether the client has chosen the tool itself."""

    def chat_finish(self, finish: str) -> str:
        """Return a finish reason as chat completions tell it."""
        if finish != TOOL_CALLS:
            return finish
        # OpenAI: what the client has named itself is no choice of the model's.
        return FinishReason.STOP if self.named else "function_call" if self.functions else finish
