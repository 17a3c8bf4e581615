"""From settings to what all models share: the rate limiter, and Triton's hooks for tests of schedulers."""

import os
from collections.abc import Mapping, Sequence

from tritium.cli.options import ServeOptions, SettingsError
from tritium.core.facilities import Facilities
from tritium.core.scheduler.limiter import EVERY_DEVICE, RateLimiter, ResourceKey


def facilities_of(options: ServeOptions, environment: Mapping[str, str] = os.environ) -> Facilities:
    """Make what the options ask for.

    Raises:
        SettingsError: one of them cannot be read.
    """
    limits = _limits(options.rate_limit_resource)
    return Facilities(
        limiter=RateLimiter(limits) if options.rate_limit == "execution_count" else None,
        hold_for=_count(environment, "TRITONSERVER_DELAY_SCHEDULER"),
        hold_backlog_for=_count(environment, "TRITONSERVER_BACKLOG_DELAY_SCHEDULER"),
    )


def _limits(given: Sequence[str]) -> dict[ResourceKey, int]:
    """Read NAME:COUNT and NAME:COUNT:DEVICE; of several for one resource the smallest counts, as in Triton."""
    limits: dict[ResourceKey, int] = {}
    for text in given:
        name, *numbers = text.split(":")
        if len(numbers) not in (1, 2) or not all(number.isdigit() for number in numbers):
            raise SettingsError(
                "--rate-limit-resource option format is '<resource_name>:<count>:<device>' or "
                f"'<resource_name>:<count>'. Got {text}"
            )
        key = (int(numbers[1]) if len(numbers) > 1 else EVERY_DEVICE, name)
        limits[key] = min(int(numbers[0]), limits.get(key, int(numbers[0])))
    return limits


def _count(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdigit() else 0
