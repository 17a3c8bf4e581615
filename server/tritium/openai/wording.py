"""What a protocol calls the fields of a chat: refusals of responses and messages name what their clients wrote.

Both are chats within (`chat_order`), which refuses by the names of chat completions; where a refusal leaves it, and
for those that the engine comes with later, each name becomes the protocol's own.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tritium.llm.errors import ContextExceeded, FieldRefused
from tritium.llm.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Wording:
    """Fields as regular expressions, and what stands in their place; the first that fits a field counts."""

    fields: tuple[tuple[re.Pattern[str], str], ...] = ()

    def of(self, text: str) -> str:
        """Return a field, or a sentence about fields, in the protocol's words."""
        for pattern, own in self.fields:
            text = pattern.sub(own, text)
        return text

    @contextmanager
    def spoken(self) -> Iterator[None]:
        """Put refusals that leave the block in the protocol's words."""
        try:
            yield
        except (FieldRefused, ContextExceeded) as error:
            error.field, error.message, error.hint = self.of(error.field), self.of(error.message), self.of(error.hint)
            raise

    def sampling(self, sampling: Sampling) -> Sampling:
        """Return how to sample with the protocol's names for what the engine may refuse."""
        names = {**{name: name for name in sampling.engine}, **sampling.names}
        return replace(sampling, names={name: self.of(said) for name, said in names.items()})


CHAT = Wording()


def wording(fields: Mapping[str, str]) -> Wording:
    """Return the wording of a protocol: expressions of a chat's fields, and what it calls them."""
    whole = ((re.compile(rf"(?<![\w.]){field}(?!\w)"), own) for field, own in fields.items())
    return Wording(tuple(whole))
