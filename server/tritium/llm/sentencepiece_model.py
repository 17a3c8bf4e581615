"""SentencePiece's `tokenizer.model` as a tokenizer of the `tokenizers` library.

The file is a protobuf (google/sentencepiece: src/sentencepiece_model.proto) of which few fields matter: the pieces with
their scores, and how the model was trained. Its BPE becomes merges by the rule of transformers' converter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from struct import unpack_from
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tritium.llm.model_files import BrokenFile

_MARK = "\u2581"


class PieceKind(IntEnum):
    """What a piece is, by the numbers of the file."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class _Algorithm(IntEnum):
    UNIGRAM = 1
    BPE = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float = 0.0
    kind: int = PieceKind.NORMAL


@dataclass(slots=True)
class SentencePieceModel:
    """The fields of a model file that matter."""

    pieces: list[Piece] = field(default_factory=list)
    algorithm: int = _Algorithm.UNIGRAM
    byte_fallback: bool = False
    unknown_id: int = 0
    charsmap: bytes = b""
    prefixes_space: bool = True


def read_sentencepiece(path: Path) -> SentencePieceModel | None:
    """Read a model file; None where the file is of another kind.

    Raises:
        BrokenFile: it begins as a model and cannot be read to its end.
    """
    content = path.read_bytes()
    # A model begins with its first piece: field 1, of a length, which begins with its text.
    if not content.startswith(b"\n") or b"\n" not in content[1:4]:
        return None
    try:
        return _model(content)
    except (IndexError, ValueError, TypeError) as error:
        raise BrokenFile(path, f"is not a whole SentencePiece model: {error}") from None


def from_sentencepiece(model: SentencePieceModel, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Return the tokenizer of a model; `legacy` and `add_prefix_space` of tokenizer_config.json, `config`, count."""
    pieces = model.pieces
    unknown = pieces[model.unknown_id].text
    if model.algorithm == _Algorithm.BPE:
        vocabulary = {piece.text: i for i, piece in enumerate(pieces)}
        bpe = models.BPE(
            vocabulary, _merges(pieces, vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback
        )
        backend = tokenizers.Tokenizer(bpe)
    else:
        scores = [(piece.text, piece.score) for piece in pieces]
        backend = tokenizers.Tokenizer(models.Unigram(scores, model.unknown_id, model.byte_fallback))
    if model.algorithm == _Algorithm.UNIGRAM or model.charsmap:
        collapse = [normalizers.Strip(left=False, right=True), normalizers.Replace(tokenizers.Regex(" {2,}"), _MARK)]
        mapped = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
        backend.normalizer = normalizers.Sequence([*mapped, *collapse])
    scheme = _prepend_scheme(model, config)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_MARK, scheme, split=model.algorithm == _Algorithm.UNIGRAM)
    strip = [decoders.Strip(" ", 1, 0)] if scheme != "never" else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_MARK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    for piece in pieces:
        if piece.kind in {PieceKind.CONTROL, PieceKind.USER_DEFINED, PieceKind.UNKNOWN}:
            special = piece.kind != PieceKind.USER_DEFINED
            backend.add_tokens([tokenizers.AddedToken(piece.text, normalized=False, special=special)])
    return backend


def _prepend_scheme(model: SentencePieceModel, config: Mapping[str, Any]) -> str:
    """Return where a space is put before a text: transformers' reading of the two settings."""
    given = config.get("add_prefix_space")
    if not (model.prefixes_space if given is None else given):
        return "never"
    return "always" if config.get("legacy") or model.algorithm == _Algorithm.UNIGRAM else "first"


def _merges(pieces: list[Piece], vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return every way to put a piece together of two others, the likeliest pieces first."""
    found: list[tuple[float, int, int, int, int, str, str]] = []
    for order, piece in enumerate(pieces):
        if piece.kind != PieceKind.NORMAL:
            continue
        for at in range(1, len(piece.text)):
            left, right = piece.text[:at], piece.text[at:]
            if left in vocabulary and right in vocabulary:
                # Among equal scores the longer halves go first, then the order of the file.
                found.append((-piece.score, -len(left), -len(right), order, vocabulary[left], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _model(content: bytes) -> SentencePieceModel:
    model = SentencePieceModel()
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            fields = dict(_fields(value))
            text, score = fields.get(1, b""), fields.get(2, 0.0)
            model.pieces.append(Piece(bytes(text).decode(), float(score), int(fields.get(3, PieceKind.NORMAL))))
        elif number == 2 and isinstance(value, bytes):
            trained = dict(_fields(value))
            model.algorithm = int(trained.get(3, _Algorithm.UNIGRAM))
            model.byte_fallback = bool(trained.get(35, False))
            model.unknown_id = int(trained.get(40, 0))
        elif number == 3 and isinstance(value, bytes):
            normalized = dict(_fields(value))
            model.charsmap = bytes(normalized.get(2, b""))
            model.prefixes_space = bool(normalized.get(3, True))
    if model.algorithm not in (_Algorithm.UNIGRAM, _Algorithm.BPE):
        raise ValueError(f"its algorithm, number {model.algorithm}, is neither BPE nor unigram")
    if not model.pieces or model.unknown_id >= len(model.pieces):
        raise ValueError("it has no pieces")
    return model


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Return the fields of a protobuf message: numbers, floats, and bytes for everything of a length."""
    at = 0
    value: Any
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(message, at)
        elif kind == 2:
            length, at = _number(message, at)
            if at + length > len(message):
                raise ValueError("it ends in the middle")
            value, at = message[at : at + length], at + length
        elif kind == 5:
            value, at = unpack_from("<f", message, at)[0], at + 4
        elif kind == 1:
            value, at = unpack_from("<d", message, at)[0], at + 8
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")
        yield key >> 3, value


def _number(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
