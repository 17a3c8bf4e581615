"""The requests and answers of the pooling routes: OpenAI's embeddings, Jina's and Cohere's rerank, vLLM's others."""

from typing import Any, Literal

import msgspec

Encoding = Literal["float", "base64"]

Texts = str | list[str | int | list[int]]
"""A text, token ids, or a list of either."""


class PoolingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields that all pooling routes share."""

    model: str
    truncate_prompt_tokens: int | None = None
    """How many tokens of each prompt are kept; -1 for as many as the model takes, None refuses what is longer."""
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None
    """Whether the model's own last function is applied: it scales vectors to length one, scores to probabilities."""
    priority: int | None = None
    request_id: str | None = None
    user: str | None = None


class EmbeddingRequest(PoolingRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/embeddings."""

    input: Texts
    encoding_format: Encoding | None = None
    dimensions: int | None = None
    add_special_tokens: bool | None = None


class PoolRequestBody(EmbeddingRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /pooling: the engine's numbers as they are; without `task` the model's first one."""

    task: str | None = None


class ClassifyRequest(PoolingRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /classify."""

    input: Texts
    add_special_tokens: bool | None = None


class ScoreRequest(PoolingRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /score: pairs of texts, by any of vLLM's names for the two sides."""

    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    data_1: str | list[str] | None = None
    data_2: str | list[str] | None = None


class RerankRequest(PoolingRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /rerank."""

    query: str
    documents: list[str | dict[str, Any]]
    """Texts, or objects with a `text`."""
    top_n: int | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = None


class PoolUsage(msgspec.Struct):
    """Tokens of all prompts of a request."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct):
    """One vector, as numbers or as base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class Embeddings(msgspec.Struct):
    """The answer to POST /v1/embeddings."""

    id: str
    created: int
    model: str
    data: list[Embedding]
    usage: PoolUsage
    object: Literal["list"] = "list"


class PooledData(msgspec.Struct):
    """What one prompt became: a vector, or a vector a token."""

    index: int
    data: list[float | list[float]] | str
    object: Literal["pooling"] = "pooling"


class PooledList(msgspec.Struct):
    """The answer to POST /pooling."""

    id: str
    created: int
    model: str
    data: list[PooledData]
    usage: PoolUsage
    object: Literal["list"] = "list"


class Classification(msgspec.Struct):
    """The classes of one prompt: the likeliest one's name, where the model names it, and all probabilities."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int


class Classifications(msgspec.Struct):
    """The answer to POST /classify."""

    id: str
    created: int
    model: str
    data: list[Classification]
    usage: PoolUsage
    object: Literal["list"] = "list"


class Score(msgspec.Struct):
    """How well the second text of a pair answers the first."""

    index: int
    score: float
    object: Literal["score"] = "score"


class Scores(msgspec.Struct):
    """The answer to POST /score."""

    id: str
    created: int
    model: str
    data: list[Score]
    usage: PoolUsage
    object: Literal["list"] = "list"


class RankedText(msgspec.Struct):
    """A document."""

    text: str


class Ranked(msgspec.Struct, omit_defaults=True):
    """One document's place; `index` is where it stood in the request."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class Ranking(msgspec.Struct):
    """The answer to POST /rerank, best first."""

    id: str
    model: str
    results: list[Ranked]
    usage: PoolUsage
