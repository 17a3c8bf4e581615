"""Token ids back to text, as they come.

Nearly every tokenizer in use maps a token to fixed bytes: byte-level BPE, and SentencePiece BPE with byte fallback.
For those the bytes of the whole vocabulary are laid out once, with their JSON-escaped form beside them, so that a
streamed token costs one lookup. A character may be split over tokens: `None` in `escaped` marks a token that is no
whole characters, and a decoder holds its bytes back. Any other tokenizer is asked to decode a sliding window.
"""

import codecs
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import tokenizers

_REPLACEMENT = "\ufffd"
_LONGEST_CHARACTER = 4
"""How many tokens a character can be split over: as many as it has bytes."""
_SPACE_MARK = "\u2581"
_JSON = msgspec.json.Encoder()

# Legal inside a JSON string, yet line ends to clients that split a stream with str.splitlines.
_LINE_ENDS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


class Detokenizer(Protocol):
    """The text of one sequence, piece by piece; the pieces together are the text of all its tokens."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next tokens and return the characters they complete."""
        ...

    def flush(self) -> str:
        """Return what stands for the bytes of a character that never became whole."""
        ...

    @property
    def holding(self) -> bool:
        """Tell whether part of a character waits for its other bytes."""
        ...


@dataclass(frozen=True, slots=True)
class TokenTable:
    """What every token id stands for.

    `pieces` are raw bytes, special tokens by their literal text. `escaped` is what a stream sends: the JSON form of
    whole characters, b"" for special tokens, None where the bytes are part of a character.
    """

    pieces: list[bytes]
    escaped: list[bytes | None]
    special: frozenset[int]

    def quiet(self, notable: frozenset[str]) -> list[bytes | None]:
        """Return `escaped` with None also for tokens that hold a notable character, or end in white space."""
        loud = re.compile("|".join(re.escape(character) for character in sorted(notable)).encode() or b"(?!)")
        return [
            escaped if escaped and not loud.search(raw) and not raw.decode()[-1].isspace() else None
            for escaped, raw in zip(self.escaped, self.pieces, strict=True)
        ]

    def detokenizer(self, *, skip_special: bool, shown: frozenset[int] = frozenset()) -> "TableDetokenizer":
        """Begin a sequence; special tokens that are `shown` are never skipped."""
        return TableDetokenizer(self, skip_special=skip_special, shown=shown)


class TableDetokenizer:
    """Detokenizes by the table; incomplete characters wait in an incremental UTF-8 decoder."""

    __slots__ = ("_decoder", "_hidden", "_pieces")

    def __init__(self, table: TokenTable, *, skip_special: bool, shown: frozenset[int] = frozenset()) -> None:
        self._pieces = table.pieces
        hidden = table.special if skip_special else frozenset()
        self._hidden = hidden - shown if shown else hidden
        self._decoder = _UTF8("replace")

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next tokens and return the characters they complete."""
        pieces, hidden = self._pieces, self._hidden
        known = len(pieces)
        raw = b"".join([pieces[i] for i in token_ids if 0 <= i < known and i not in hidden])
        return self._decoder.decode(raw)

    def flush(self) -> str:
        """Return what stands for the bytes of a character that never became whole."""
        return self._decoder.decode(b"", final=True)

    @property
    def holding(self) -> bool:
        """Tell whether part of a character waits for its other bytes."""
        return bool(self._decoder.getstate()[0])


class WindowDetokenizer:
    """Detokenizes by decoding the last few tokens again at every step, after enough context to keep spaces right.

    Where the text ends in a replacement character, its last tokens may be part of a character, and wait; but no more of
    them than a character can have.
    """

    __slots__ = ("_context", "_hidden", "_ids", "_sent", "_tokenizer")

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        prompt_tail: Sequence[int],
        *,
        skip_special: bool,
        shown: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder() if skip_special else {}
        self._hidden = frozenset(i for i, token in added.items() if token.special) - shown
        self._ids = [i for i in prompt_tail if i not in self._hidden]
        self._context = 0
        self._sent = len(self._ids)

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next tokens and return the characters they complete."""
        self._ids.extend(i for i in token_ids if i not in self._hidden)
        for waiting in range(_LONGEST_CHARACTER):
            end = len(self._ids) - waiting
            text = self._fresh(end) if end > self._sent else ""
            if not text or not text.endswith(_REPLACEMENT):
                break
        if text:
            self._context, self._sent = self._sent, end
        return text

    def flush(self) -> str:
        """Return what stands for the bytes of a character that never became whole."""
        text = self._fresh(len(self._ids))
        self._context = self._sent = len(self._ids)
        return text

    @property
    def holding(self) -> bool:
        """Tell whether part of a character waits for its other bytes."""
        return self._sent < len(self._ids)

    def _fresh(self, end: int) -> str:
        before = self._decode(self._ids[self._context : self._sent])
        return self._decode(self._ids[self._context : end])[len(before) :]

    def _decode(self, token_ids: list[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False))


def escape(text: str) -> bytes:
    """Return the text as it stands between the quotes of a JSON string."""
    escaped = _JSON.encode(text)[1:-1]
    if not text.isascii():
        for raw, written in _LINE_ENDS:
            escaped = escaped.replace(raw, written)
    return escaped


def token_table(tokenizer: tokenizers.Tokenizer) -> TokenTable | None:
    """Lay out the bytes of every token, or return None where a token alone does not tell its bytes."""
    piece_bytes = _rule(msgspec.json.decode(tokenizer.decoder.__getstate__()) if tokenizer.decoder else None)
    if piece_bytes is None:
        return None
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    added = tokenizer.get_added_tokens_decoder()
    special = frozenset(i for i, token in added.items() if token.special)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, i in vocabulary.items():
        pieces[i] = piece_bytes(token)
    for i, entry in added.items():
        # The library decodes a token that is looked for in normalized text to the normalized form of it.
        written = tokenizer.id_to_token(i)
        pieces[i] = entry.content.encode() if written == entry.content else piece_bytes(written)
    escaped = [b"" if i in special else _escaped(piece) for i, piece in enumerate(pieces)]
    return TokenTable(pieces, escaped, special)


def _escaped(piece: bytes) -> bytes | None:
    try:
        return escape(piece.decode())
    except UnicodeDecodeError:
        return None


def _rule(decoder: dict[str, Any] | None) -> Any:
    """Return the function from a token to its bytes that the tokenizer's decoder amounts to."""
    steps = _steps(decoder)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return _byte_level
    if kinds == ["Metaspace"] and steps[0]["replacement"] == _SPACE_MARK:
        return _space_mark
    # Strip drops the space at the start of a text; a completion never starts one, the prompt did.
    if [kind for kind in kinds if kind != "Strip"] == ["Replace", "ByteFallback", "Fuse"]:
        replace = next(step for step in steps if step["type"] == "Replace")
        if replace["pattern"] == {"String": _SPACE_MARK} and replace["content"] == " ":
            return _space_mark_or_byte
    return None


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _byte_level(token: str) -> bytes:
    alphabet = _byte_alphabet()
    try:
        return bytes([alphabet[character] for character in token])
    except KeyError:
        return token.encode()


def _space_mark(token: str) -> bytes:
    return token.replace(_SPACE_MARK, " ").encode()


def _space_mark_or_byte(token: str) -> bytes:
    if len(token) == len("<0x00>") and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            return token.encode()
    return _space_mark(token)


@functools.cache
def byte_characters() -> tuple[str, ...]:
    """Return the printable characters by which byte-level BPE (GPT-2) writes the 256 bytes, in their order.

    Printable Latin-1 stands for itself; the other bytes take the characters from U+0100 on, in order.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = (chr(0x100 + n) for n in range(256))
    return tuple(chr(byte) if byte in printable else next(others) for byte in range(256))


@functools.cache
def _byte_alphabet() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_characters())}


_UTF8 = codecs.getincrementaldecoder("utf-8")
