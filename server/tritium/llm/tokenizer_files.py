"""The tokenizer in a model folder, whatever its files: always read into one of the `tokenizers` library.

tokenizer.json         the library's own
tekken.json            Mistral's ranked bytes
tokenizer.model        SentencePiece, or tiktoken's ranked bytes under the same name (Llama 3 as Meta gives it)
*.tiktoken, tiktoken.model
vocab.json + merges.txt   GPT-2's byte-level BPE, and Qwen 2's

Only tokenizer.json holds its added tokens; for the others they are in tokenizer_config.json, added_tokens.json and
special_tokens_map.json.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from tritium.core.errors import InvalidArgument
from tritium.llm.byte_ranks import QWEN, from_tekken, from_tiktoken, read_tiktoken
from tritium.llm.model_files import BrokenFile, read_object
from tritium.llm.sentencepiece_model import from_sentencepiece, read_sentencepiece

CONFIG = "tokenizer_config.json"
PATTERNS = ("tokenizer.json", "tekken.json", "tokenizer.model", "tiktoken.model", "*.tiktoken", "vocab.json")
"""The files of which one must be there, the first that is being read."""
_ADDED = "added_tokens.json"
_SPECIAL = "special_tokens_map.json"


@dataclass(frozen=True, slots=True)
class _Added:
    """A token that is added to a vocabulary, as the files say."""

    id: int | None
    token: tokenizers.AddedToken


def read_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """Read the tokenizer of a model folder.

    Raises:
        InvalidArgument: a file is missing or broken; the message names it.
    """
    path = next((path for pattern in PATTERNS for path in sorted(folder.glob(pattern))), None)
    if path is None:
        raise InvalidArgument(
            f"no tokenizer.json in {folder}, nor another file to read a tokenizer from: {', '.join(PATTERNS[1:])}",
            hint="save it with AutoTokenizer.from_pretrained(...).save_pretrained",
        )
    if path.name == "tokenizer.json":
        return _from_json(path)
    if path.name == "tekken.json":
        backend = from_tekken(path)
        _begin_with(backend, "<s>")
        return backend
    config = read_config(folder)
    backend = _from_pairs(folder, config) if path.name == "vocab.json" else _from_model(path, config)
    named = [entry.token for entry in _added_tokens(folder) if entry.token.content]
    backend.add_tokens([token for token in named if not token.special])
    backend.add_special_tokens([token for token in named if token.special])
    if config.get("add_bos_token", path.name == "tokenizer.model"):
        _begin_with(backend, special_text(config.get("bos_token")) or _bos(backend))
    return backend


def read_config(folder: Path) -> dict[str, Any]:
    """Return tokenizer_config.json and special_tokens_map.json as one; empty where there is neither.

    Raises:
        BrokenFile: a file is there and cannot be read.
    """
    return _read_if_there(folder / CONFIG) | _read_if_there(folder / _SPECIAL)


def special_text(token: Any) -> str:
    """Return the text of a special token, which is written as a string or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _from_json(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises bare Exception for any file it cannot read
        raise InvalidArgument(f"{path} is not a tokenizer: {error}") from None


def _from_model(path: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    model = read_sentencepiece(path)
    if model is not None:
        return from_sentencepiece(model, config)
    ranks = read_tiktoken(path)
    if ranks is None:
        raise BrokenFile(path, "is neither a SentencePiece model nor one of tiktoken", "is it a pointer of Git LFS?")
    added = {entry.id: entry.token.content for entry in _added_tokens(path.parent) if entry.id is not None}
    return from_tiktoken(ranks, str(config.get("tokenizer_class", "")), added)


def _from_pairs(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    merges = folder / "merges.txt"
    if not merges.is_file():
        raise InvalidArgument(f"{folder} has vocab.json without merges.txt", hint="or put tokenizer.json there")
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(merges))
    except Exception as error:  # noqa: BLE001  likewise
        raise InvalidArgument(f"vocab.json and merges.txt in {folder} are not a tokenizer: {error}") from None
    backend = tokenizers.Tokenizer(model)
    prefix = bool(config.get("add_prefix_space", False))
    if str(config.get("tokenizer_class", "")).startswith("Qwen2"):
        backend.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(tokenizers.Regex(QWEN), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(prefix, use_regex=False)])
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    return backend


def _added_tokens(folder: Path) -> Iterator[_Added]:
    """Return the tokens that the files beside a vocabulary add to it, in the order of their ids."""
    config = _read_if_there(folder / CONFIG)
    found: dict[int, _Added] = {}
    for i, content in sorted(_read_if_there(folder / _ADDED).items(), key=lambda entry: entry[1]):
        found[int(content)] = _Added(int(content), tokenizers.AddedToken(i, normalized=False, special=False))
    listed = config.get("added_tokens_decoder")
    for i, entry in (listed if isinstance(listed, dict) else {}).items():
        if not i.isdecimal() or not isinstance(entry, dict) or not special_text(entry):
            raise BrokenFile(folder / CONFIG, f"added_tokens_decoder has no token at {i!r}")
        flags = {name: bool(entry.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
        token = tokenizers.AddedToken(special_text(entry), special=bool(entry.get("special", False)), **flags)
        found[int(i)] = _Added(int(i), token)
    yield from (found[i] for i in sorted(found))
    known = {entry.token.content for entry in found.values()}
    for key, value in read_config(folder).items():
        for each in value if key in ("additional_special_tokens", "extra_special_tokens") else (value,):
            if (key.endswith("_token") or isinstance(value, list)) and special_text(each) not in known | {""}:
                known.add(special_text(each))
                yield _Added(None, tokenizers.AddedToken(special_text(each), normalized=False, special=True))


def _begin_with(backend: tokenizers.Tokenizer, token: str) -> None:
    """Let plain prompts begin with a token, if the tokenizer has it."""
    i = backend.token_to_id(token) if token else None
    if i is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, i)]
        )


def _bos(backend: tokenizers.Tokenizer) -> str:
    return next((token for token in ("<s>", "<|begin_of_text|>") if backend.token_to_id(token) is not None), "")


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
