"""A model's tokenizer: text to token ids, and back.

Prompts are encoded piece by piece, the pieces that earlier prompts had not at all (`llm.segments`); what is long is
encoded in a thread.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from tritium.cluster.fleet import OwnSample
from tritium.cluster.timings import SHORT_S, stage_samples
from tritium.core.latencies import Histogram
from tritium.llm.bound import most_characters
from tritium.llm.detokenize import Detokenizer, TokenTable, WindowDetokenizer, token_table
from tritium.llm.errors import ContextExceeded
from tritium.llm.segments import Reuse, segmenter
from tritium.llm.template import ChatTemplate
from tritium.llm.template_files import ChatTemplates, read_templates
from tritium.llm.tokenizer_files import read_tokenizer

TOKENIZER_HELP = {
    "tritium_tokenizer_reused_tokens_total": "Prompt tokens known from pieces that earlier prompts had too",
    "tritium_tokenizer_computed_tokens_total": "Prompt tokens of pieces that were tokenized",
    "tritium_tokenizer_memory_bytes": "Memory of the pieces whose tokens are kept",
}

_SHORT_CHARACTERS = 8_192
"""Up to here a prompt is encoded on the event loop (about 2 ms); a longer one in a thread, where it holds no lock."""

_BATCH_CHARACTERS = 1 << 20
"""How much of a request's pairs is encoded at a time."""

_DECODE_S = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2)

_WINDOW_TOKENS = 6
"""How much of the prompt a window detokenizer sees before the first new token."""


class Tokenizer:
    """Encodes prompts and decodes completions of one model; `templates` write its conversations."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        template: ChatTemplate | None = None,
        templates: ChatTemplates | None = None,
    ) -> None:
        self._backend = backend
        # A stored truncation or padding is a training setting; a prompt is served whole or refused.
        backend.no_truncation()
        backend.no_padding()
        self.render_s, self.encode_s, self.decode_s = Histogram(SHORT_S), Histogram(SHORT_S), Histogram(_DECODE_S)
        self.templates = templates or ChatTemplates({"default": template} if template is not None else {})
        self.table: TokenTable | None = token_table(backend)
        self._special: dict[str, int] | None = None
        self._quiet: dict[tuple[frozenset[str], bytes | None], list[bytes | None]] = {}
        self._segmenter = segmenter(backend)
        self._around = _specials_around(backend)
        self._most_characters = most_characters(backend, self.table)

    @classmethod
    def load(
        cls, folder: Path, chat_template: str | None = None, *, trust_request_templates: bool = False
    ) -> "Tokenizer":
        """Read the tokenizer of a model folder; `chat_template` is an operator's own in place of the model's.

        Raises:
            InvalidArgument: a file is missing or broken; the message names it.
        """
        backend = read_tokenizer(folder)
        templates = read_templates(folder, chat_template, trust_requests=trust_request_templates)
        return cls(backend, templates=templates)

    @property
    def template(self) -> ChatTemplate | None:
        """Return the template of conversations without tools; None where the model has none."""
        return self.templates.default

    @property
    def reuse(self) -> Reuse:
        """Return how many tokens of prompts were known from earlier ones."""
        return self._segmenter.reuse if self._segmenter is not None else _NO_REUSE

    def stage_metrics(self, model: str) -> Iterator[OwnSample]:
        """Return how long rendering conversations, tokenizing prompts and turning tokens into text took."""
        yield from stage_samples(model, "render", self.render_s)
        yield from stage_samples(model, "tokenize", self.encode_s)
        yield from stage_samples(model, "detokenize", self.decode_s)

    def metrics(self, model: str) -> Iterator[tuple[str, dict[str, str], float]]:
        """Return how much tokenizing was spared, and what memory that takes."""
        of = {"model": model}
        yield "tritium_tokenizer_reused_tokens_total", of, self.reuse.reused_tokens
        yield "tritium_tokenizer_computed_tokens_total", of, self.reuse.computed_tokens
        yield "tritium_tokenizer_memory_bytes", of, self._segmenter.bytes if self._segmenter is not None else 0

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
        began_s = time.monotonic()
        ids = await self._encode(text, add_special=add_special)
        self.encode_s.observe(time.monotonic() - began_s)
        return ids

    async def _encode(self, text: str, *, add_special: bool) -> list[int]:
        if self._segmenter is None or (add_special and self._around is None):
            if len(text) <= _SHORT_CHARACTERS:
                return self.encode_now(text, add_special=add_special)
            [ids] = await asyncio.to_thread(self._encode_unlocked, [text], add_special=add_special)
            return ids
        segments = self._segmenter.cut(text)
        missing = segments.missing
        if sum(map(len, missing)) <= _SHORT_CHARACTERS:
            ids = segments.join([self._encode_piece(piece) for piece in missing])
        else:
            encoded = await asyncio.to_thread(self._encode_unlocked, missing, add_special=False)
            skip = self._segmenter.skip
            ids = segments.join([its[skip(piece) :] for piece, its in zip(missing, encoded, strict=True)])
        return self._around.put(ids) if add_special and self._around is not None else ids

    async def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], int]]:
        """Return the token ids of each pair of texts, and where its second one begins (0 where nothing marks it)."""
        if sum(len(one) + len(other) for one, other in pairs) <= _SHORT_CHARACTERS:
            return self._encode_pairs(pairs)
        found = []
        for some in _in_batches(pairs):
            found += await asyncio.to_thread(self._encode_pairs, some)
        return found

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], int]]:
        encoded = self._backend.encode_batch(list(pairs), add_special_tokens=True)
        return [(list(e.ids), e.type_ids.index(1) if 1 in e.type_ids else 0) for e in encoded]

    def encode_now(self, text: str, *, add_special: bool) -> list[int]:
        """Return the token ids of a short text without waiting."""
        # Offsets, which the fast one leaves out, are a quarter of the work.
        return list(self._backend.encode_batch_fast([text], add_special_tokens=add_special)[0].ids)

    def _encode_piece(self, piece: str) -> list[int]:
        ids = self.encode_now(piece, add_special=False)
        return ids[self._segmenter.skip(piece) :] if self._segmenter is not None else ids

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

    def token_ids(self, texts: Iterable[str]) -> dict[str, int]:
        """Return the ids of those texts that are each one token of the vocabulary."""
        found = ((text, self._backend.token_to_id(text)) for text in texts)
        return {text: int(token_id) for text, token_id in found if token_id is not None}

    def quiet_pieces(self, notable: frozenset[str], between: bytes | None = None) -> list[bytes | None]:
        """Return the table's escaped pieces of tokens with no notable character in them and no white space at the end.

        The others are None; with `between` each stands there twice. A list is made once; the first of a large
        vocabulary takes some 50 ms.
        """
        if self.table is None:
            return []
        found = self._quiet.get((notable, between))
        if found is None:
            if between is None:
                found = self.table.quiet(notable)
            else:
                found = [piece and piece + between + piece for piece in self.quiet_pieces(notable)]
            self._quiet[notable, between] = found
        return found

    def special_ids(self, texts: Iterable[str]) -> dict[str, int]:
        """Return the ids of those texts that are special tokens."""
        if self._special is None:
            added = self._backend.get_added_tokens_decoder().items()
            self._special = {token.content: i for i, token in added if token.special}
        return {text: self._special[text] for text in texts if text in self._special}

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a prompt given as token ids."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=True))

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes a single token stands for, special ones by their literal text."""
        if self.table is not None:
            return self.table.pieces[token_id] if 0 <= token_id < len(self.table.pieces) else b""
        return str(self._backend.decode([token_id], skip_special_tokens=False)).encode()


def _in_batches(pairs: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield the pairs some at a time: what the library makes of a text takes a hundred times its memory."""
    batch: list[tuple[str, str]] = []
    characters = 0
    for pair in pairs:
        batch.append(pair)
        characters += len(pair[0]) + len(pair[1])
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Around:
    """What a tokenizer puts around every text."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def put(self, ids: list[int]) -> list[int]:
        return [*self.before, *ids, *self.after]


def _specials_around(backend: tokenizers.Tokenizer) -> _Around | None:
    """Return what is put around every text, or None where that depends on the text."""
    found: set[_Around] = set()
    for text in ("a", "word and word"):
        plain = backend.encode(text, add_special_tokens=False).ids
        whole = backend.encode(text, add_special_tokens=True).ids
        extra = len(whole) - len(plain)
        places = [n for n in range(extra + 1) if whole[n : n + len(plain)] == plain]
        if len(places) != 1:
            return None
        found.add(_Around(tuple(whole[: places[0]]), tuple(whole[places[0] + len(plain) :])))
    return found.pop() if len(found) == 1 else None


_NO_REUSE = Reuse()
