"""The prompts of one pooling request on their way through the fleet, together, and what they became.

texts or token ids -> token ids within the context -> fleet.pool, all at once -> arrays in their order
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tritium.backends.engine import Pooled
from tritium.cluster.fleet import PoolRequest
from tritium.core.errors import Cancelled, InferenceError, InvalidArgument
from tritium.llm.errors import ContextExceeded, FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.models import LanguageModels, Served
from tritium.openai.pooling.schema import PoolingRequest, PoolUsage, Texts
from tritium.openai.tokens import check_length, check_tokens
from tritium.openai.visit import Visit

Array = npt.NDArray[np.float32]

MAX_PROMPTS = 2_048
"""As many inputs as OpenAI's API takes."""


@dataclass(frozen=True, slots=True)
class PoolPrompt:
    """One prompt; `second_at` is where the second text of a pair begins, for models that mark it."""

    token_ids: list[int]
    second_at: int = 0


class Batch:
    """The prompts of a request to one model, pooled by one task after another as the route needs it."""

    def __init__(self, visit: Visit, served: Served, call: PoolingRequest) -> None:
        self._visit = visit
        self._served = served
        self._call = call
        self.id = visit.id
        self.created = int(time.time())
        self.tokens = 0

    @property
    def usage(self) -> PoolUsage:
        """Return the tokens of what was pooled so far."""
        return PoolUsage(self.tokens, self.tokens)

    async def pool(self, prompts: Sequence[PoolPrompt], task: str, dimensions: int | None = None) -> list[Array]:
        """Pool the prompts and return their arrays in order; one that fails ends them all.

        Raises:
            InferenceError: the fleet failed, or the client left.
        """
        fitted = [self._fit(prompt) for prompt in prompts]
        tokens = sum(len(prompt.token_ids) for prompt in fitted)
        self.tokens += tokens
        model = self._served.model
        started_ns = time.monotonic_ns()
        model.statistics.pending += 1
        work = asyncio.ensure_future(self._all([self._request(prompt, task, dimensions) for prompt in fitted]))
        self._visit.request.on_disconnect(lambda: _cancel(work))
        error: InferenceError | None = None
        try:
            return [_array(pooled) for pooled in await work]
        except InferenceError as failure:
            error = failure
            raise
        except asyncio.CancelledError:
            work.cancel()
            error = Cancelled("the client closed the connection")
            handler = asyncio.current_task()
            if handler is not None and handler.cancelling():
                raise
            raise error from None
        finally:
            model.statistics.pending -= 1
            model.count(started_ns, error)
            self._visit.spend(tokens, 0)
            self._visit.end()

    async def _all(self, requests: Sequence[PoolRequest]) -> list[Pooled]:
        fleet = self._served.model.fleet
        tasks = [asyncio.ensure_future(fleet.pool(request)) for request in requests]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _request(self, prompt: PoolPrompt, task: str, dimensions: int | None) -> PoolRequest:
        parameters: dict[str, Any] = {}
        if dimensions is not None:
            parameters["dimensions"] = dimensions
        if self._call.use_activation is not None:
            parameters["use_activation"] = self._call.use_activation
        return PoolRequest(
            prompt.token_ids,
            task,
            parameters,
            request_id=self._visit.id,
            worker=self._visit.worker,
            lora=self._served.lora,
            priority=self._call.priority or 0,
            tenant=self._visit.tenant,
            second_at=prompt.second_at,
        )

    def _fit(self, prompt: PoolPrompt) -> PoolPrompt:
        """Return a prompt cut to what was asked for.

        Raises:
            ContextExceeded: it is longer than the context, and nothing was said of cutting.
        """
        context_tokens = self._served.model.fleet.info.context_tokens
        most = self._call.truncate_prompt_tokens
        if most is not None and not -1 <= most <= context_tokens:
            raise FieldRefused("truncate_prompt_tokens", f"truncate_prompt_tokens goes from -1 to {context_tokens}")
        room = context_tokens if most in (None, -1) else most
        count = len(prompt.token_ids)
        if count <= room:
            return prompt
        if most is None:
            raise ContextExceeded("input", context_tokens, count, 0)
        if self._call.truncation_side == "left":
            return PoolPrompt(prompt.token_ids[count - room :], max(0, prompt.second_at - (count - room)))
        return PoolPrompt(prompt.token_ids[:room], prompt.second_at if prompt.second_at < room else 0)


def _cancel(work: asyncio.Future[list[Pooled]]) -> None:
    work.cancel()


def served_for(visit: Visit, call: PoolingRequest, models: LanguageModels) -> Served:
    """Take the id that a request may have in its body, and return the model that it names.

    Raises:
        InferenceError: there is no such model, or it takes no requests now.
    """
    visit.take_id(call.request_id)
    served = models.find(call.model)
    served.model.admit()
    return served


async def prompts_of(texts: Texts, model: LanguageModel, *, add_special: bool) -> list[PoolPrompt]:
    """Return the prompts of `input`: a text, token ids, or a list of either.

    Raises:
        FieldRefused: it is neither, or a token is not in the vocabulary.
    """
    return [PoolPrompt(await _encode(one, i, model, add_special)) for i, one in enumerate(_told_apart(texts))]


def require(served: Served, *tasks: str) -> str:
    """Return the first of the tasks that the model does.

    Raises:
        InvalidArgument: it does none of them; the message says what it does.
    """
    has = served.model.fleet.info.tasks
    for task in tasks:
        if task in has:
            return task
    raise InvalidArgument(
        f"The model `{served.name}` does not {' or '.join(tasks)}: it does {', '.join(has) or 'nothing'}.",
        hint="a pooling model does; GET /v1/models lists the models",
    )


def counted(count: int, field: str) -> None:
    """Refuse a request of no prompts, or of too many.

    Raises:
        FieldRefused: naming the field that holds them.
    """
    if not 1 <= count <= MAX_PROMPTS:
        raise FieldRefused(field, f"{field} takes from 1 to {MAX_PROMPTS} entries, got {count}")


async def _encode(text: str | list[int], place: int, model: LanguageModel, add_special: bool) -> list[int]:  # noqa: FBT001  private, and named where it is called from
    tokenizer = model.tokenizer
    if isinstance(text, str):
        check_length(text, model, f"input[{place}]")
        token_ids = await tokenizer.encode(text, add_special=add_special)
    else:
        token_ids = text
        check_tokens(token_ids, tokenizer, "input")
    if not token_ids:
        raise FieldRefused("input", f"input[{place}] is empty")
    return token_ids


def _told_apart(texts: Texts) -> Sequence[str | list[int]]:
    if isinstance(texts, str):
        return [texts]
    ids = [one for one in texts if isinstance(one, int)]
    if texts and len(ids) == len(texts):
        return [ids]
    several = [one for one in texts if not isinstance(one, int)]
    if ids:
        raise FieldRefused("input", "input must be a string, a list of token ids, or a list of either")
    counted(len(several), "input")
    return several


def _array(pooled: Pooled) -> Array:
    return np.frombuffer(pooled.data, dtype="<f4").reshape(pooled.shape)


Compare = Callable[[Array, Array], float]
"""Says how near two texts are, by what they were pooled to."""


def cosine(one: Array, other: Array) -> float:
    """Return the cosine of two vectors; 0 where one has no length."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def late_interaction(one: Array, other: Array) -> float:
    """Return the sum over the first text's tokens of the nearest of the second's (ColBERT's MaxSim)."""
    return float((one @ other.T).max(axis=1).sum())
