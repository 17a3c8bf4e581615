"""What is said of prefill and decode apart before anybody measured a load: what a long prompt does to others.

No rate is known to a plan, so one request a second on an H100 is assumed; both are said wherever the figures are shown.
Where aiconfigurator is installed it decides: how many workers of each there should be, or none for prompts alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from tritium.migration.forecasting.aiconfigurator import Opinion, Question, installed, opinion
from tritium.migration.forecasting.checkpoint import BadCheckpoint, read_size
from tritium.migration.forecasting.forecast import Load, forecast
from tritium.migration.forecasting.layout_table import Candidate
from tritium.migration.forecasting.machine import GPUS
from tritium.migration.forecasting.repository import config_of

_GPU = "h100"
_LOAD = Load(rate=1.0, prompt_tokens=2048, answer_tokens=256, first_token_s=5.0, between_tokens_s=0.2)
_KEPT = replace(_LOAD, first_token_s=1.0, between_tokens_s=0.05)
"""What aiconfigurator is asked to keep: it fills the GPUs up to these times, and would to the wide ones above."""
_KV_BYTES = 2.0
_WORTH = 2.0
"""How many times shorter the longest gap between two tokens has to become."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The longest gap between two tokens of an answer, together and apart, in seconds; and what aiconfigurator says."""

    together_s: float
    apart_s: float
    opinion: Opinion | None = None
    """None: it is not installed."""

    @property
    def is_worth_it(self) -> bool:
        """Tell whether a worker of its own for prompts is worth proposing: by aiconfigurator, else by even answers."""
        if self.opinion is not None and self.opinion.answer is not None:
            return self.opinion.answer.is_apart
        return self.together_s >= _WORTH * self.apart_s

    @property
    def layout(self) -> Candidate | None:
        """Return how many workers of each aiconfigurator would have; None where it has no answer."""
        return self.opinion.answer.apart if self.opinion is not None and self.opinion.answer is not None else None

    @property
    def said(self) -> str:
        """Say it, with what was assumed."""
        gaps = f"{self.together_s * 1e3:.1f} ms between two tokens of an answer become {self.apart_s * 1e3:.1f} ms"
        forecast_said = (
            f"forecast: at worst {gaps} (assumed: {_GPU}, {_LOAD.rate:.0f} request a second, prompts of "
            f"{_LOAD.prompt_tokens} tokens; dynamo-migrate forecast takes yours)"
        )
        if self.opinion is None:
            return forecast_said
        if self.opinion.answer is None:
            return f"{forecast_said}; {self.opinion.said}"
        asked = (
            f"as many requests as {_KEPT.first_token_s:g} s to the first token and {_KEPT.between_tokens_s * 1e3:g} ms "
            f"to each further one allow, answers of {_KEPT.answer_tokens}"
        )
        return f"{self.opinion.said} ({asked}); {forecast_said}"


def outlook(folder: Path, gpus: int, gpus_each: int) -> Outlook | None:
    """Forecast for the checkpoint that a model's folder names; None where it is not here, or fits nowhere.

    aiconfigurator is asked for all `gpus`, in workers of `gpus_each`.
    """
    try:
        config = config_of(folder)
        found = forecast(read_size(config), GPUS[_GPU], _LOAD, _KV_BYTES)
    except BadCheckpoint:
        return None
    if found.aggregated is None or found.apart is None:
        return None
    checkpoint = config.parent if config.is_file() else config
    said = opinion(Question(checkpoint, _GPU, _KEPT, gpus, gpus_each))
    return Outlook(found.aggregated.longest_gap_s, found.apart.longest_gap_s, said)


def not_asked() -> str:
    """Say that an installed aiconfigurator was not asked about a model without an outlook; "" where there is none."""
    return "aiconfigurator is not asked: no checkpoint is here that a forecast can be made for" if installed() else ""
