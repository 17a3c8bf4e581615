"""Folders of models that come and go while the server runs."""

import pytest

from tritium.core.catalog import LoadParameters
from tritium.core.errors import AlreadyExists, InvalidArgument, Unsupported
from tritium.repository.settings import ControlMode

EXPLICIT = ControlMode.EXPLICIT
READY, UNLOADED = ("READY", ""), ("UNAVAILABLE", "unloaded")


@pytest.fixture
async def registry(house):
    """A server of no model yet."""
    made = house.registry(EXPLICIT)
    await made.start()
    return made


@pytest.fixture
def elsewhere(house, tmp_path):
    """A folder beside the repository with the models `inner` and `other`, whose configurations name them so."""
    for name in ("inner", "other"):
        house.write(name, f'name: "{name}"\n')
    folder = tmp_path / "elsewhere"
    house.path.rename(folder)
    house.path.mkdir()
    return str(folder)


async def test_a_registered_model_is_loaded_by_its_new_name(registry, elsewhere, index_of):
    """Whatever its folder and its configuration call it; its neighbours keep their names."""
    registry.register(elsewhere, {"inner": "new"})
    await registry.load("new", LoadParameters())
    assert registry.model("new").config.name == "new"
    assert index_of(registry) == {"new": {"1": READY}, "other": {}}
    await registry.unload("new")
    registry.unregister(elsewhere)
    assert index_of(registry) == {}


async def test_nothing_is_registered_twice(registry, elsewhere, tmp_path):
    """Neither the folder nor the name."""
    registry.register(elsewhere, {"inner": "new"})
    with pytest.raises(AlreadyExists, match="has already been registered"):
        registry.register(elsewhere, {"other": "another"})
    with pytest.raises(AlreadyExists, match="conflicting mapping for 'new'"):
        registry.register(str(tmp_path), {"elsewhere": "new"})


async def test_what_is_not_there_is_refused(registry, elsewhere):
    """A folder that does not exist, one that was not registered."""
    with pytest.raises(InvalidArgument, match="repository not found"):
        registry.register(elsewhere + "/nope", {"inner": "new"})
    with pytest.raises(InvalidArgument, match="repository not found"):
        registry.unregister(elsewhere)


async def test_only_explicit_control_takes_folders(house, elsewhere):
    """As in Triton, whose other modes read the repositories by themselves."""
    registry = house.registry(ControlMode.NONE)
    with pytest.raises(Unsupported, match="not EXPLICIT"):
        registry.register(elsewhere, {"inner": "new"})
