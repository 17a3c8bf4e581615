"""What all models share, out of the settings: limits of resources, a cache, and the hooks for tests."""

import pytest

from tritium.cli.facilities import facilities_of
from tritium.cli.options import ServeOptions, SettingsError
from tritium.core.scheduler.limiter import GLOBAL, Claim


def test_usually_there_is_nothing() -> None:
    """Without a setting no model pays for anything."""
    facilities = facilities_of(ServeOptions(), {})
    assert (facilities.limiter, facilities.store, facilities.hold_for, facilities.hold_backlog_for) == (
        None,
        None,
        0,
        0,
    )


def test_resources_by_device() -> None:
    """NAME:COUNT is every device's, NAME:COUNT:DEVICE one's; of several the smallest counts, as in Triton."""
    given = ("R:4:0", "R:2", "G:9", "G:3")
    limiter = facilities_of(ServeOptions(rate_limit="execution_count", rate_limit_resource=given), {}).limiter
    assert limiter is not None
    for claim in ({(0, "R"): 4}, {(1, "R"): 2}, {(GLOBAL, "G"): 3}):
        limiter.register(Claim(claim)).withdraw()
    assert facilities_of(ServeOptions(rate_limit_resource=given), {}).limiter is None


@pytest.mark.parametrize("text", ["R", "R:x", "R:1:2:3", "R:1:", "R:-1"])
def test_a_resource_that_cannot_be_read(text: str) -> None:
    """The message is tritonserver's."""
    with pytest.raises(
        SettingsError, match="--rate-limit-resource option format is '<resource_name>:<count>:<device>'"
    ):
        facilities_of(ServeOptions(rate_limit="execution_count", rate_limit_resource=(text,)), {})


def test_a_cache_in_memory() -> None:
    """--cache-config=local makes a store of that size; what cannot be read is a settings error with its hint."""
    store = facilities_of(ServeOptions(cache_config=("local,size=4096",)), {}).store
    assert store is not None
    assert not store.shared
    with pytest.raises(
        SettingsError, match=r"needs its size in bytes, got ''\n  hint: --cache-config=local,size=1048576"
    ):
        facilities_of(ServeOptions(cache_config=("local,sise=4096",)), {})


def test_hooks_of_the_environment() -> None:
    """Triton's variables hold schedulers back; a value that is no number is none, as there."""
    held = facilities_of(
        ServeOptions(), {"TRITONSERVER_DELAY_SCHEDULER": "6", "TRITONSERVER_BACKLOG_DELAY_SCHEDULER": "many"}
    )
    assert (held.hold_for, held.hold_backlog_for) == (6, 0)
