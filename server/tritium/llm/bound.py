"""How few tokens a text can be, told without encoding it.

Encoding takes a quarter of a kilobyte a token while it goes on; a prompt of megabytes for a context of kilobytes is
refused before.
"""

import tokenizers

from tritium.llm.boundaries import steps
from tritium.llm.detokenize import TokenTable

_COMPOSED = 4
"""How many characters Unicode's normal forms make one of at most."""
_NORMAL_FORMS = frozenset({"NFC", "NFKC", "NFD", "NFKD"})
_KEEPING = frozenset({"ByteLevel", "Split", "Digits", "Punctuation", "Metaspace"})
"""Pre-tokenizers that drop nothing, unless told to."""


def most_characters(backend: tokenizers.Tokenizer, table: TokenTable | None) -> int:
    """Return how many characters of a prompt one token can stand for; 0 where that has no bound, or none is known."""
    if table is None or any(token.lstrip or token.rstrip for token in backend.get_added_tokens_decoder().values()):
        return 0
    longest = max((len(piece) for piece in table.pieces), default=0)
    for step in steps(backend.normalizer):
        if step["type"] in _NORMAL_FORMS:
            longest *= _COMPOSED
        elif step["type"] != "Prepend" and not (step["type"] == "Replace" and step["pattern"] == {"String": " "}):
            return 0
    for step in steps(backend.pre_tokenizer):
        if step["type"] not in _KEEPING or step.get("behavior") == "Removed":
            return 0
    return longest
