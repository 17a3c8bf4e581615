"""Grammars of sequences that another worker began, as vLLM's manager makes them."""

from types import SimpleNamespace

import pytest

from tritium.backends.vllm.resume import RESUMED, take_up_grammars


class Grammar:
    """Takes even tokens."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def accept_tokens(self, _request: str, tokens: list[int]) -> bool:
        self.taken += tokens
        return all(token % 2 == 0 for token in tokens)


@pytest.fixture
def manager():
    """A class like vLLM's, taken up twice, as plugins may be loaded."""

    class Manager:
        def _create_grammar(self, _request):
            return Grammar()

    take_up_grammars(Manager)
    take_up_grammars(Manager)
    return Manager()


def asked(tokens: list[int], extra: dict[str, int] | None):
    sampling = SimpleNamespace(extra_args=extra)
    return SimpleNamespace(request_id="1", prompt_token_ids=tokens, sampling_params=sampling)


def test_advances_by_what_was_generated(manager):
    """A fresh grammar has taken the tokens of the other worker, once, and those of the prompt not."""
    assert manager._create_grammar(asked([1, 3, 4, 6], {RESUMED: 2})).taken == [4, 6]


@pytest.mark.parametrize("extra", [None, {}, {"kv_transfer_params": 1}])
def test_a_sequence_from_its_beginning(manager, extra):
    """Where nobody began the sequence, its grammar is as vLLM makes it."""
    assert manager._create_grammar(asked([1, 3], extra)).taken == []


def test_tokens_that_do_not_fit(manager):
    """Tokens that the grammar would not have let through fail the sequence rather than be forgotten."""
    with pytest.raises(ValueError, match="do not fit"):
        manager._create_grammar(asked([1, 3], {RESUMED: 1}))
