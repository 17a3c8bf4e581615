"""What a forecast says of prefill and decode apart before anybody measured a load: what a long prompt does to others.

No rate is known to a plan, so one request a second on an H100 is assumed; both are said wherever the figures are shown.
"""

from dataclasses import dataclass
from pathlib import Path

from tritium.migration.forecasting.checkpoint import BadCheckpoint, read_size
from tritium.migration.forecasting.forecast import Load, forecast
from tritium.migration.forecasting.machine import GPUS
from tritium.migration.forecasting.repository import config_of

_GPU = "h100"
_LOAD = Load(rate=1.0, prompt_tokens=2048, answer_tokens=256, first_token_s=5.0, between_tokens_s=0.2)
_KV_BYTES = 2.0
_WORTH = 2.0
"""How many times shorter the longest gap between two tokens has to become."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The longest gap between two tokens of an answer, together and apart, in seconds."""

    together_s: float
    apart_s: float

    @property
    def is_worth_it(self) -> bool:
        """Tell whether answers flow so much more evenly that a worker of its own for prompts is worth proposing."""
        return self.together_s >= _WORTH * self.apart_s

    @property
    def said(self) -> str:
        """Say it, with what was assumed."""
        gaps = f"{self.together_s * 1e3:.1f} ms between two tokens of an answer become {self.apart_s * 1e3:.1f} ms"
        return (
            f"forecast: at worst {gaps} (assumed: {_GPU}, {_LOAD.rate:.0f} request a second, prompts of "
            f"{_LOAD.prompt_tokens} tokens; dynamo-migrate forecast takes yours)"
        )


def outlook(folder: Path) -> Outlook | None:
    """Forecast for the checkpoint that a model's folder names; None where it is not here, or fits nowhere."""
    try:
        found = forecast(read_size(config_of(folder)), GPUS[_GPU], _LOAD, _KV_BYTES)
    except BadCheckpoint:
        return None
    if found.aggregated is None or found.apart is None:
        return None
    return Outlook(found.aggregated.longest_gap_s, found.apart.longest_gap_s)
