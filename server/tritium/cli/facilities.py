"""From settings to what all models share: rate limiter, response cache, and Triton's hooks for tests of schedulers."""

import os
from collections.abc import Mapping, Sequence

import structlog

from tritium.cache.redis import RedisStore
from tritium.cache.settings import LocalSettings, read_cache_config
from tritium.cli.options import ServeOptions, SettingsError
from tritium.compat.config import messages
from tritium.core.cache.store import LocalStore, Store
from tritium.core.errors import InvalidArgument
from tritium.core.facilities import Facilities
from tritium.core.scheduler.limiter import EVERY_DEVICE, RateLimiter, ResourceKey
from tritium.observe.cache import CountedStore

log = structlog.get_logger("tritium")


def facilities_of(options: ServeOptions, environment: Mapping[str, str] = os.environ) -> Facilities:
    """Make what the options ask for.

    Raises:
        SettingsError: one of them cannot be read.
    """
    limits = _limits(options.rate_limit_resource)
    return Facilities(
        limiter=RateLimiter(limits, _note_limits) if options.rate_limit == "execution_count" else None,
        store=_store(options.cache_config, environment),
        hold_for=_count(environment, "TRITONSERVER_DELAY_SCHEDULER"),
        hold_backlog_for=_count(environment, "TRITONSERVER_BACKLOG_DELAY_SCHEDULER"),
    )


async def open_facilities(facilities: Facilities) -> None:
    """Connect what needs a connection.

    Raises:
        Unavailable: what the settings name is not there.
    """
    if isinstance(facilities.store, RedisStore):
        await facilities.store.open()


async def close_facilities(facilities: Facilities) -> None:
    """Give connections up."""
    if isinstance(facilities.store, RedisStore):
        await facilities.store.close()


def _store(given: Sequence[str], environment: Mapping[str, str]) -> Store | None:
    try:
        settings = read_cache_config(given, environment)
    except InvalidArgument as error:
        raise SettingsError(f"{error.message}\n  hint: {error.hint}" if error.hint else error.message) from None
    if settings is None:
        return None
    if isinstance(settings, LocalSettings):
        return CountedStore(LocalStore(settings.size_bytes, _complain), settings.size_bytes)
    return RedisStore(settings)


def _complain(message: str) -> None:
    log.warning("response_not_cached", reason=message)


def _note_limits(limits: Mapping[ResourceKey, int]) -> None:
    log.debug(messages.most_resources(limits))


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
