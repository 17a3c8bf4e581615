"""POST /score and /rerank: how well texts answer others.

A model that scores pairs reads each pair as one prompt; one that embeds reads every text once, and vectors are
compared here: whole texts by their cosine, tokens by late interaction.
"""

from collections.abc import Sequence

from tritium.llm.errors import FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.models import LanguageModels, Served
from tritium.openai.options import OpenAIOptions
from tritium.openai.pooling.batch import (
    Batch,
    Compare,
    PoolPrompt,
    cosine,
    counted,
    late_interaction,
    prompts_of,
    require,
    served_for,
)
from tritium.openai.pooling.schema import (
    Ranked,
    RankedText,
    Ranking,
    RerankRequest,
    Score,
    ScoreRequest,
    Scores,
)
from tritium.openai.schema import Reader
from tritium.openai.status import json_response
from tritium.openai.tokens import check_length
from tritium.openai.visit import Visit
from tritium.wire.http import Response

_SCORE = Reader(ScoreRequest)
_RERANK = Reader(RerankRequest)

_MOST_CHARACTERS = 64 << 20
"""Of all pairs together; a text that goes with many others counts with each."""

_COMPARED: dict[str, Compare] = {"embed": cosine, "token_embed": late_interaction}
_SIDES = (("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2"))


async def score(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /score: pairs one by one, or one text with each of several."""
    call = visit.read(_SCORE)
    served = served_for(visit, call, models)
    first, second = _pairs(call)
    batch = Batch(visit, served, call)
    scores = await _scores(batch, served, first, second)
    data = [Score(i, value) for i, value in enumerate(scores)]
    return json_response(visit, Scores(f"score-{batch.id}", batch.created, served.name, data, batch.usage))


async def rerank(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /rerank: documents in the order of how well they answer the query."""
    call = visit.read(_RERANK)
    served = served_for(visit, call, models)
    counted(len(call.documents), "documents")
    if call.top_n is not None and call.top_n < 0:
        raise FieldRefused("top_n", f"top_n must be at least 0, got {call.top_n}")
    texts = [_text(document, i) for i, document in enumerate(call.documents)]
    read = await _shortened(texts, call.max_tokens_per_doc, served.model)
    batch = Batch(visit, served, call)
    scores = await _scores(batch, served, [call.query], read)
    # Equal ones stay in the request's order.
    order = sorted(range(len(texts)), key=lambda i: -scores[i])[: call.top_n or None]
    shown = call.return_documents is not False
    results = [Ranked(i, scores[i], RankedText(texts[i]) if shown else None) for i in order]
    return json_response(visit, Ranking(f"rerank-{batch.id}", served.name, results, batch.usage))


async def _scores(batch: Batch, served: Served, first: Sequence[str], second: Sequence[str]) -> list[float]:
    """Return a score a pair; a single first text goes with each of the second ones."""
    task = require(served, "score", "embed", "token_embed")
    model = served.model
    for text in (*first, *second):
        check_length(text, model, "input")
    if task == "score":
        pairs = [(first[i if len(first) > 1 else 0], text) for i, text in enumerate(second)]
        characters = sum(len(one) + len(other) for one, other in pairs)
        if characters > _MOST_CHARACTERS:
            raise FieldRefused(
                "input", f"the pairs have {characters} characters, more than the {_MOST_CHARACTERS} taken"
            )
        prompts = [PoolPrompt(*encoded) for encoded in await model.tokenizer.encode_pairs(pairs)]
        return [float(array.ravel()[0]) for array in await batch.pool(prompts, task)]
    compare = _COMPARED[task]
    prompts = await prompts_of([*first, *second], model, add_special=True)
    arrays = await batch.pool(prompts, task)
    ones, others = arrays[: len(first)], arrays[len(first) :]
    return [compare(ones[i if len(ones) > 1 else 0], other) for i, other in enumerate(others)]


def _pairs(call: ScoreRequest) -> tuple[list[str], list[str]]:
    given = [(a, b) for a, b in _SIDES if getattr(call, a) is not None or getattr(call, b) is not None]
    if len(given) != 1:
        raise FieldRefused("text_1", "give the two sides of the pairs as text_1 and text_2")
    [(one, other)] = given
    sides = []
    for field in (one, other):
        value = getattr(call, field)
        if value is None:
            raise FieldRefused(field, f"Missing required parameter: '{field}'.", code="missing_required_parameter")
        texts = [value] if isinstance(value, str) else value
        counted(len(texts), field)
        sides.append(texts)
    first, second = sides
    if len(first) not in (1, len(second)):
        raise FieldRefused(
            one, f"{one} has {len(first)} texts and {other} has {len(second)}: give as many, or one for all"
        )
    return first, second


def _text(document: object, place: int) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        raise FieldRefused(f"documents[{place}]", f"documents[{place}] must be a string, or an object with a text")
    return text


async def _shortened(texts: Sequence[str], most: int | None, model: LanguageModel) -> list[str]:
    """Return the texts cut to so many tokens each."""
    if not most:
        return list(texts)
    if most < 0:
        raise FieldRefused("max_tokens_per_doc", f"max_tokens_per_doc must be at least 0, got {most}")
    cut, tokenizer = [], model.tokenizer
    for i, text in enumerate(texts):
        check_length(text, model, f"documents[{i}]")
        token_ids = await tokenizer.encode(text, add_special=False)
        cut.append(text if len(token_ids) <= most else tokenizer.decode(token_ids[:most]))
    return cut
