"""How long a step would take on a GPU: by a polynomial, or by figures that a profiler measured.

step = what a step costs at all + prompt tokens (linear, and quadratic in their places) + tokens that decode
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tritium.core.errors import InvalidArgument


class Span(NamedTuple):
    """So many tokens of a prompt, from the place `start` on."""

    start: int
    tokens: int


class StepLoad(NamedTuple):
    """What one step computes: spans of prompts, and one token each of `batch` sequences of `context_tokens` in all."""

    prompts: Sequence[Span]
    batch: int
    context_tokens: int


class Timing(Protocol):
    """Tells the length of a step."""

    def step_ms(self, load: StepLoad) -> float:
        """Return how long the step takes."""
        ...

    def steps_ms(self, load: StepLoad, steps: int) -> float:
        """Return how long so many steps in a row take, the first of them `load`, which has no prompts.

        In each the sequences are a token longer than in the one before.
        """
        ...


@dataclass(frozen=True, slots=True)
class Polynomial:
    """Coefficients in milliseconds. `base` is paid once a step; `prompt_square` by the square of the prompt's length.

    A prompt in several chunks costs as much as in one, but for the base: its square is that of its end less its start.
    """

    base_ms: float = 0.0
    prompt_base_ms: float = 0.0
    prompt_token_ms: float = 0.0
    prompt_square_ms: float = 0.0
    sequence_ms: float = 0.0
    context_token_ms: float = 0.0

    def step_ms(self, load: StepLoad) -> float:
        """Return how long the step takes."""
        total = self.base_ms + self.sequence_ms * load.batch + self.context_token_ms * load.context_tokens
        if load.prompts:
            total += self.prompt_base_ms
            for start, tokens in load.prompts:
                end = start + tokens
                total += self.prompt_token_ms * tokens + self.prompt_square_ms * (end * end - start * start)
        return total

    def steps_ms(self, load: StepLoad, steps: int) -> float:
        """Return how long so many steps in a row take that only decode: a sum of equal differences."""
        grown = load.batch * (steps - 1) / 2
        each = self.base_ms + self.sequence_ms * load.batch + self.context_token_ms * (load.context_tokens + grown)
        return each * steps


@dataclass(frozen=True, slots=True)
class Profile:
    """Measured figures, interpolated linearly and carried on beyond their ends.

    `decode_itl_ms` has a row for every number of tokens in the cache and a column for every context length.
    """

    prefill_tokens: npt.NDArray[np.float64]
    prefill_ttft_ms: npt.NDArray[np.float64]
    decode_kv_tokens: npt.NDArray[np.float64]
    decode_context_tokens: npt.NDArray[np.float64]
    decode_itl_ms: npt.NDArray[np.float64]

    def step_ms(self, load: StepLoad) -> float:
        """Return how long the step takes: its prompts as one of their length, and its decoding."""
        total = 0.0
        tokens = sum(span.tokens for span in load.prompts)
        if tokens:
            total += _along(tokens, self.prefill_tokens, self.prefill_ttft_ms)
        if load.batch:
            length = load.context_tokens / load.batch
            rows = [_along(length, self.decode_context_tokens, row) for row in self.decode_itl_ms]
            total += _along(load.context_tokens, self.decode_kv_tokens, np.array(rows))
        return total

    def steps_ms(self, load: StepLoad, steps: int) -> float:
        """Return how long so many steps in a row take that only decode, one by one."""
        lengths = range(load.context_tokens, load.context_tokens + steps * load.batch, max(1, load.batch))
        return sum(self.step_ms(StepLoad((), load.batch, tokens)) for tokens in lengths)


# As a profiler of a planner writes them, Dynamo's among others.
_PROFILE_ARRAYS = ("prefill_isl", "prefill_ttft_ms", "decode_active_kv_tokens", "decode_context_length", "decode_itl")


def read_profile(path: Path) -> Profile:
    """Read a profile: an .npz of five arrays, `decode_itl` of two dimensions, in milliseconds and tokens.

    Raises:
        InvalidArgument: the file is missing, is no .npz, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _PROFILE_ARRAYS if name not in file]
            if missing:
                raise InvalidArgument(
                    f"{path} has no array {', '.join(missing)}", hint=f"it needs {', '.join(_PROFILE_ARRAYS)}"
                )
            isl, ttft, kv_tokens, context, itl = (np.asarray(file[name], np.float64) for name in _PROFILE_ARRAYS)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"{path} is no profile: {error}", hint="an .npz, as numpy.savez writes it") from None
    for name, places, values in (
        ("prefill_isl", isl, ttft.shape),
        ("decode_active_kv_tokens", kv_tokens, itl.shape[:1]),
        ("decode_context_length", context, itl.shape[1:]),
    ):
        if places.shape != values or places.ndim != 1 or places.size < 1:
            raise InvalidArgument(f"{path}: {name} has the shape {places.shape} and its figures {values}")
        if np.any(np.diff(places) <= 0):
            raise InvalidArgument(f"{path}: {name} does not rise")
    return Profile(isl, ttft, kv_tokens, context, itl)


def _along(at: float, places: npt.NDArray[np.float64], values: npt.NDArray[Any]) -> float:
    """Interpolate, and beyond the ends go on as steeply as the last two figures; never below zero."""
    if len(places) == 1:
        return float(values[0])
    upper = int(np.clip(np.searchsorted(places, at), 1, len(places) - 1))
    share = (at - places[upper - 1]) / (places[upper] - places[upper - 1])
    return max(0.0, float(values[upper - 1] + share * (values[upper] - values[upper - 1])))
