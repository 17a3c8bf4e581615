"""Takes up, inside vLLM's engine process, the grammar of a sequence that another worker began.

vLLM holds a sequence to a grammar from its first token on; the tokens of a lost worker are the end of the prompt. How
many they are goes with the sampling parameters, and a fresh grammar is advanced by them before it is used.
"""

from typing import Any

RESUMED = "tritium_resumed_tokens"
"""The key in `extra_args` of vLLM's sampling parameters."""


def take_up_grammars(manager: Any) -> None:
    """Have vLLM's StructuredOutputManager, given as a class, advance grammars. Harmless when repeated."""
    create = manager._create_grammar  # noqa: SLF001  no public place comes between making a grammar and its use
    if getattr(create, "takes_up", False):
        return

    def create_and_advance(self: Any, request: Any) -> Any:
        grammar = create(self, request)
        asked = request.sampling_params
        count = (asked.extra_args or {}).get(RESUMED, 0) if asked is not None else 0
        if count and not grammar.accept_tokens(request.request_id, list(request.prompt_token_ids[-count:])):
            raise ValueError(f"the {count} tokens that another worker generated do not fit the grammar")
        return grammar

    create_and_advance.takes_up = True  # type: ignore[attr-defined]  # a mark on a function
    manager._create_grammar = create_and_advance  # noqa: SLF001  as above
