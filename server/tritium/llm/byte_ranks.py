"""Tokenizers written as ranked bytes: tiktoken's files (Llama 3, Kimi, Qwen 1, GPT) and Mistral's tekken.json.

A rank is both the id of a token and when its bytes are merged. The files of tiktoken hold no pattern and no special
tokens: these are the family's, told by tokenizer_config.json's class or by the number of ranks.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tritium.llm.detokenize import byte_characters
from tritium.llm.model_files import BrokenFile, read_object

Ranks = dict[bytes, int]

_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN = _CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_KIMI = (
    r"[\p{Han}]+"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}&&[^\p{{Han}}]]*[{_LOWER}&&[^\p{{Han}}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}&&[^\p{{Han}}]]+[{_LOWER}&&[^\p{{Han}}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class _Family:
    """What a family's own code says and its file does not.

    `special` are tokens by their place after the last rank; `reserved` names the other places, of which `room` are.
    """

    pattern: str
    special: Mapping[int, str] = field(default_factory=dict)
    room: int = 0
    reserved: str = ""


_LLAMA3 = _Family(
    _CL100K,
    {
        **dict(enumerate(("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"))),
        **{i: f"<|reserved_special_token_{i - 2}|>" for i in (3, 4, 5)},
        **dict(
            enumerate(("<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"), 6)
        ),
        **{i: f"<|reserved_special_token_{i - 5}|>" for i in range(10, 256)},
    },
)
_QWEN1 = _Family(
    QWEN,
    {
        **dict(enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))),
        **{i + 3: f"<|extra_{i}|>" for i in range(205)},
    },
)
_GPT35 = _Family(
    _CL100K,
    {1: "<|endoftext|>", 2: "<|fim_prefix|>", 3: "<|fim_middle|>", 4: "<|fim_suffix|>", 20: "<|endofprompt|>"},
)
_GPT4O = _Family(_O200K, {1: "<|endoftext|>", 20: "<|endofprompt|>"})
_OLD_GPT = _Family(_GPT2, {0: "<|endoftext|>"})

_BY_CLASS = {
    "TikTokenTokenizer": _Family(_KIMI, room=256, reserved="<|reserved_token_{}|>"),
    "QWenTokenizer": _QWEN1,
}
_BY_RANKS = {128_000: _LLAMA3, 151_643: _QWEN1, 100_256: _GPT35, 199_998: _GPT4O}
_OLD_RANKS = 60_000
"""Fewer ranks than these are of GPT-2's time."""

# Mistral's names of the special tokens before they were written into the file (version 7 and earlier).
_TEKKEN_SPECIAL = (
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
)


def read_tiktoken(path: Path) -> Ranks | None:
    """Read a file of base64 and rank a line; None where the file is of another kind.

    Raises:
        BrokenFile: it begins as such a file and has a line that is none.
    """
    ranks: Ranks = {}
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        written, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(written, validate=True)] = int(rank)
        except (binascii.Error, ValueError):
            if not ranks:
                return None
            raise BrokenFile(path, "not a token in base64 and its rank", line=number, column=1) from None
    return ranks or None


def from_tiktoken(ranks: Ranks, kind: str, added: Mapping[int, str]) -> tokenizers.Tokenizer:
    """Return the tokenizer of a tiktoken file.

    `kind` is the class that tokenizer_config.json names; `added` the tokens by id that it and its like add, for which
    there is room afterwards.
    """
    family = _BY_CLASS.get(kind) or _BY_RANKS.get(len(ranks)) or (_OLD_GPT if len(ranks) < _OLD_RANKS else _GPT35)
    first = max(ranks.values()) + 1
    named = {first + i: family.reserved.format(first + i) for i in range(family.room)}
    named |= {first + i: text for i, text in family.special.items()}
    special = {text: i for i, text in named.items() if i not in added}
    return _byte_pairs(ranks, family.pattern, special, {text: i for i, text in added.items()})


def from_tekken(path: Path) -> tokenizers.Tokenizer:
    """Return the tokenizer of a tekken.json: its special tokens come first, its ranks after them.

    Raises:
        BrokenFile: the file is not as Mistral's are; the message says where.
    """
    document = read_object(path)
    try:
        config = document["config"]
        specials = int(config["default_num_special_tokens"])
        entries = document["vocab"][: int(config["default_vocab_size"]) - specials]
        ranks = {base64.b64decode(entry["token_bytes"]): int(entry["rank"]) + specials for entry in entries}
        listed = document.get("special_tokens")
        if listed is None:
            listed = [{"rank": i, "token_str": text} for i, text in enumerate(_TEKKEN_SPECIAL)]
        named = {int(token["rank"]): str(token["token_str"]) for token in listed}
        pattern = str(config["pattern"])
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenFile(path, f"is no tekken file: {error!r}") from None
    return _byte_pairs(ranks, pattern, {named.get(i, f"<SPECIAL_{i}>"): i for i in range(specials)})


def _byte_pairs(
    ranks: Ranks, pattern: str, special: Mapping[str, int], others: Mapping[str, int] | None = None
) -> tokenizers.Tokenizer:
    """Return a byte-level BPE with these ranks, special tokens at their ids, and ids kept free for others."""
    characters = byte_characters()

    def written(token: bytes) -> str:
        return "".join([characters[byte] for byte in token])

    merges: list[tuple[int, int, int, bytes, bytes]] = []
    for token, rank in ranks.items():
        for at in range(1, len(token)):
            left, right = token[:at], token[at:]
            if left in ranks and right in ranks:
                merges.append((rank, ranks[left], ranks[right], left, right))
    pairs = [(written(left), written(right)) for *_, left, right in sorted(merges)]
    vocabulary = {**(others or {}), **special, **{written(token): rank for token, rank in ranks.items()}}
    # tiktoken takes a word that is a token whole, however its merges would go.
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    ordered = sorted(special, key=lambda text: special[text])
    backend.add_special_tokens([tokenizers.AddedToken(text, normalized=False, special=True) for text in ordered])
    return backend
