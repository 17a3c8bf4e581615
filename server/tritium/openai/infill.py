"""Text between a prompt and a suffix: the prompt in the form that models were trained to fill the middle of.

Which form is a model's own is told by the tokens that its vocabulary has for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tritium.llm.errors import FieldRefused
from tritium.llm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class _Form:
    """The marks of one family; `suffix_first` puts the suffix before the prompt."""

    prefix: str
    suffix: str
    middle: str
    suffix_first: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        return tuple(mark for mark in (self.prefix, self.suffix, self.middle) if mark)


_FORMS = (
    _Form("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen 2.5 Coder, CodeGemma
    _Form("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    _Form("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    _Form("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001  DeepSeek's own bars
    _Form("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"),  # Seed Coder's kind
    _Form("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    _Form("[PREFIX]", "[SUFFIX]", "", suffix_first=True),  # Codestral
)


async def infill(prompt: str, suffix: str, tokenizer: Tokenizer) -> list[int]:
    """Return the token ids that ask for what stands between two texts.

    Raises:
        FieldRefused: the model's vocabulary has no tokens for that.
    """
    for form in _FORMS:
        ids = tokenizer.token_ids(form.marks)
        if len(ids) == len(form.marks):
            return await _filled(form, ids, prompt, suffix, tokenizer)
    raise FieldRefused("suffix", "suffix is not served by this model: its vocabulary has no tokens to fill text in")


async def _filled(form: _Form, ids: Mapping[str, int], prompt: str, suffix: str, tokenizer: Tokenizer) -> list[int]:
    before = [ids[form.prefix], *await tokenizer.encode(prompt, add_special=False)]
    after = [ids[form.suffix], *await tokenizer.encode(suffix, add_special=False)]
    parts = after + before if form.suffix_first else before + after
    return [*await _start(tokenizer), *parts, *([ids[form.middle]] if form.middle else [])]


async def _start(tokenizer: Tokenizer) -> list[int]:
    """Return what the tokenizer puts before every text."""
    bare = await tokenizer.encode("a", add_special=False)
    whole = await tokenizer.encode("a", add_special=True)
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:at]
