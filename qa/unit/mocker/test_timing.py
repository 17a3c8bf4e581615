"""How long simulated steps take: against published figures, and against a profile's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritium.backends.mocker.hardware import GPUS, MODELS, Machine
from tritium.backends.mocker.timing import Polynomial, Profile, Span, StepLoad, Timing, read_profile
from tritium.core.errors import InvalidArgument


def prompt(tokens: int) -> StepLoad:
    return StepLoad([Span(0, tokens)], 0, 0)


def decode(batch: int, context: int) -> StepLoad:
    return StepLoad([], batch, batch * context)


# docs/engines.md says where each figure was published.
PUBLISHED = [
    (Machine("h100", "8b", 1, "fp8"), decode(1, 300), 4.63),
    (Machine("h100", "8b", 1, "fp8"), decode(50, 300), 5.91),
    (Machine("h100", "8b", 1, "fp8"), decode(100, 300), 7.57),
    (Machine("h100", "70b", 2, "fp8"), prompt(5000), 406.8),
    (Machine("h100", "70b", 2, "fp8"), prompt(500), 47.8),
    (Machine("h100", "70b", 2, "fp8"), decode(1, 1500), 18.9),
    (Machine("h200", "8b", 1, "bf16"), decode(8, 96), 6.5),
    (Machine("h200", "70b", 4, "bf16"), decode(8, 96), 16.2),
    (Machine("a100", "8b", 1, "bf16"), prompt(500), 48.3),
]


@pytest.mark.parametrize(("machine", "load", "published_ms"), PUBLISHED, ids=lambda value: str(value)[:40])
def test_steps_last_as_published(machine: Machine, load: StepLoad, published_ms: float) -> None:
    """The roofline is within 25 percent of what was measured on the real GPUs."""
    assert machine.timing().step_ms(load) == pytest.approx(published_ms, rel=0.25)


def test_more_costs_more() -> None:
    """Every token, sequence and block of context lengthens a step, on every GPU; a better GPU shortens it."""
    for gpu in GPUS:
        timing = Machine(gpu, "8b", 1, "bf16").timing()
        assert timing.step_ms(prompt(200)) > timing.step_ms(prompt(100)) > timing.base_ms
        assert timing.step_ms(decode(2, 100)) > timing.step_ms(decode(1, 100)) > timing.base_ms
        assert timing.step_ms(decode(1, 9000)) > timing.step_ms(decode(1, 100))
    base = [Machine(gpu, "8b", 1, "bf16").timing().base_ms for gpu in ("h200", "h100", "a100", "l40s")]
    assert base == sorted(base)


def test_chunks_cost_what_the_whole_costs() -> None:
    """A prompt in pieces takes as long as in one, but for what a step costs at all."""
    timing = Polynomial(base_ms=2, prompt_token_ms=0.1, prompt_square_ms=0.001)
    pieces = [StepLoad([Span(at, 250)], 0, 0) for at in range(0, 1000, 250)]
    assert sum(timing.step_ms(piece) for piece in pieces) == pytest.approx(timing.step_ms(prompt(1000)) + 3 * 2)


def test_the_cache_is_what_the_weights_leave() -> None:
    """KV bytes a token follow from the model; a model over more GPUs has the more room."""
    assert MODELS["8b"].kv_bytes == 128 << 10
    assert MODELS["70b"].kv_bytes == 320 << 10
    assert Machine("h100", "8b", 1, "bf16").kv_cache_bytes == pytest.approx(80e9 * 0.9 - 16.06e9)


def write_profile(path: Path, **changes: object) -> Path:
    arrays: dict[str, object] = {
        "prefill_isl": [100, 1000],
        "prefill_ttft_ms": [10, 100],
        "decode_active_kv_tokens": [0, 1000],
        "decode_context_length": [100, 200, 300],
        "decode_itl": [[1, 2, 3], [11, 12, 13]],
    }
    arrays |= changes
    given: dict[str, Any] = {name: np.array(value) for name, value in arrays.items() if value is not None}
    np.savez(path, **given)
    return path


def test_a_profile_is_interpolated(tmp_path: Path) -> None:
    """Between measured places the line between them counts, beyond the ends it goes on."""
    profile = read_profile(write_profile(tmp_path / "gpu.npz"))
    assert profile.step_ms(prompt(550)) == pytest.approx(55)
    assert profile.step_ms(StepLoad([Span(0, 300), Span(900, 1700)], 0, 0)) == pytest.approx(200)
    assert profile.step_ms(decode(2, 250)) == pytest.approx(2.5 + 5)
    assert profile.step_ms(StepLoad([Span(0, 100)], 2, 500)) == pytest.approx(10 + 7.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decode_itl": None}, "has no array decode_itl"),
        ({"prefill_isl": [1, 2, 3]}, r"prefill_isl has the shape \(3,\)"),
        ({"decode_itl": [1, 2]}, "decode_context_length"),
        ({"prefill_isl": [5, 5]}, "prefill_isl does not rise"),
        ({"prefill_isl": ["a", "b"]}, "is no profile"),
    ],
)
def test_a_broken_profile_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """What does not fit together is named."""
    with pytest.raises(InvalidArgument, match=message):
        read_profile(write_profile(tmp_path / "gpu.npz", **changes))


def test_no_profile_at_all_is_refused(tmp_path: Path) -> None:
    """A file that is missing or no .npz is named."""
    (tmp_path / "text.npz").write_text("prefill")
    for name in ("none.npz", "text.npz"):
        with pytest.raises(InvalidArgument, match=f"{name} is no profile"):
            read_profile(tmp_path / name)


@pytest.mark.parametrize(
    "timing",
    [
        Machine("h100", "8b", 1, "fp8").timing(),
        Profile(*map(np.array, ([1.0], [1.0], [100.0, 5000.0], [10.0, 900.0], [[2.0, 3.0], [6.0, 11.0]]))),
    ],
    ids=["polynomial", "profile"],
)
def test_steps_in_a_row_take_as_long_as_one_by_one(timing: Timing) -> None:
    """Decoding many steps at once is a shorter way to the same time."""
    one_by_one = sum(timing.step_ms(StepLoad((), 7, 700 + 7 * at)) for at in range(50))
    assert timing.steps_ms(StepLoad((), 7, 700), 50) == pytest.approx(one_by_one)
