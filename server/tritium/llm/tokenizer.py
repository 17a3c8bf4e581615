"""A model folder's tokenizer: text to token ids, and back.

Reads `tokenizer.json` with the `tokenizers` library; `tokenizer_config.json` and its companions give the chat
template and the special tokens it names.
"""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from tritium.core.errors import InvalidArgument
from tritium.llm.bound import most_characters
from tritium.llm.detokenize import Detokenizer, TokenTable, WindowDetokenizer, token_table
from tritium.llm.errors import ContextExceeded
from tritium.llm.model_files import read_object
from tritium.llm.segments import segmenter
from tritium.llm.template import ChatTemplate

_SHORT_CHARACTERS = 8_192
"""Up to here a prompt is encoded on the event loop (about 2 ms); a longer one in a thread, where it holds no lock."""

_WINDOW_TOKENS = 6
"""How much of the prompt a window detokenizer sees before the first new token."""


class Tokenizer:
    """Encodes prompts and decodes completions of one model."""

    def __init__(self, backend: tokenizers.Tokenizer, template: ChatTemplate | None = None) -> None:
        self._backend = backend
        # A stored truncation or padding is a training setting; a prompt is served whole or refused.
        backend.no_truncation()
        backend.no_padding()
        self.template = template
        self.table: TokenTable | None = token_table(backend)
        self._segmenter = segmenter(backend)
        self._most_characters = most_characters(backend, self.table)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read the tokenizer of a model folder.

        Raises:
            InvalidArgument: a file is missing or broken; the message names it.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise InvalidArgument(
                f"no tokenizer.json in {folder}", hint="save it with AutoTokenizer.from_pretrained(...).save_pretrained"
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001  the library raises bare Exception for any file it cannot read
            raise InvalidArgument(f"{path} is not a tokenizer: {error}") from None
        return cls(backend, load_template(folder))

    @property
    def vocabulary_size(self) -> int:
        """Return the number of tokens, added ones included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def check_room(self, text: str, context_tokens: int, field: str) -> None:
        """Refuse a prompt that cannot fit, whatever its tokens are; `field` is what holds it.

        Raises:
            ContextExceeded: it has more characters than so many tokens can stand for.
        """
        if self._most_characters and len(text) > self._most_characters * context_tokens:
            raise ContextExceeded(field, context_tokens, len(text) // self._most_characters, 0, at_least=True)

    async def encode(self, text: str, *, add_special: bool) -> list[int]:
        """Return the token ids of `text`, with the tokenizer's own start and end tokens where `add_special`."""
        if self._segmenter is None or add_special:
            if len(text) <= _SHORT_CHARACTERS:
                return self.encode_now(text, add_special=add_special)
            [ids] = await asyncio.to_thread(self._encode_unlocked, [text], add_special=add_special)
            return ids
        segments = self._segmenter.cut(text)
        missing = segments.missing
        if sum(map(len, missing)) <= _SHORT_CHARACTERS:
            return segments.join([self.encode_now(part, add_special=False) for part in missing])
        return segments.join(await asyncio.to_thread(self._encode_unlocked, missing, add_special=False))

    def encode_now(self, text: str, *, add_special: bool) -> list[int]:
        """Return the token ids of a short text without waiting."""
        return list(self._backend.encode(text, add_special_tokens=add_special).ids)

    def _encode_unlocked(self, texts: list[str], *, add_special: bool) -> list[list[int]]:
        # Of the library's calls only the batched ones release the interpreter's lock.
        return [e.ids for e in self._backend.encode_batch_fast(texts, add_special_tokens=add_special)]

    def detokenizer(
        self, prompt: Sequence[int], *, skip_special: bool = True, shown: frozenset[int] = frozenset()
    ) -> Detokenizer:
        """Begin the text of a completion that follows `prompt`; special tokens that are `shown` are never skipped."""
        if self.table is not None:
            return self.table.detokenizer(skip_special=skip_special, shown=shown)
        return WindowDetokenizer(self._backend, prompt[-_WINDOW_TOKENS:], skip_special=skip_special, shown=shown)

    def special_ids(self, texts: Iterable[str]) -> dict[str, int]:
        """Return the ids of those texts that are special tokens."""
        special = {token.content: i for i, token in self._backend.get_added_tokens_decoder().items() if token.special}
        return {text: special[text] for text in texts if text in special}

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a prompt given as token ids."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=True))

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes a single token stands for, special ones by their literal text."""
        if self.table is not None:
            return self.table.pieces[token_id] if 0 <= token_id < len(self.table.pieces) else b""
        return str(self._backend.decode([token_id], skip_special_tokens=False)).encode()


def load_template(folder: Path) -> ChatTemplate | None:
    """Read the chat template of a model folder; None where the model has none.

    Raises:
        InvalidArgument: a file is broken; the message names it.
    """
    config = _read_if_there(folder / "tokenizer_config.json")
    path = folder / "chat_template.jinja"
    source = _read_template(path) if path.is_file() else _named(config.get("chat_template"))
    if source is None:
        legacy = _read_if_there(folder / "chat_template.json")
        source = _named(legacy.get("chat_template"))
    if source is None:
        return None
    return ChatTemplate(source, _special_tokens(config | _read_if_there(folder / "special_tokens_map.json")))


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}", hint="chat templates are UTF-8 text") from None


def _named(template: Any) -> str | None:
    """Return the default one where a folder names several."""
    if isinstance(template, list):
        named = [t for t in template if isinstance(t, dict) and t.get("name") == "default"]
        return str(named[0].get("template", "")) if named else None
    return template if isinstance(template, str) else None


def _special_tokens(config: dict[str, Any]) -> dict[str, Any]:
    """Return bos_token, eos_token and their like as templates name them."""
    named: dict[str, Any] = {}
    for key, value in config.items():
        if not key.endswith("_token"):
            continue
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            named[key] = text
    return named


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
