"""Repositories that are namespaces: one name in two of them, and ensembles that find the right one."""

import asyncio
import shutil

import pytest

from tritium.core.catalog import LoadParameters
from tritium.core.errors import InvalidArgument
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.repository.settings import ControlMode

EXPLICIT, POLL = ControlMode.EXPLICIT, ControlMode.POLL
NOTHING = LoadParameters()
AMBIGUOUS = r"There are 2 identifiers of model 'part' in global map, model namespace must be provided"


@pytest.fixture
def two(house):
    """Write two repositories, each with a model `part` and an ensemble of its own around it."""
    home = house.path
    for name in ("left", "right"):
        house.path = home / name
        house.write("part", content=name)
        house.write_ensemble(f"whole_{name}", "part")
    house.path = home
    return house


def registry_of(house, mode, **settings):
    home = house.path
    return house.registry(mode, repositories=(home / "left", home / "right"), namespacing=True, **settings)


async def contents(registry, ensemble):
    """Run an ensemble, and return what the versions are made of that took part."""
    seen = []
    for model in registry.models():
        if hasattr(model, "content"):
            original = model.submit

            def submit(request, reply, model=model, original=original):
                seen.append(model.content)
                original(request, reply)

            model.submit = submit
    reply = SingleReply(asyncio.get_running_loop())
    registry.submit(InferRequest(ensemble, inputs=[Tensor("x", "FP32", (1,), b"\0\0\0\0")]), reply)
    await asyncio.wait_for(reply.future, 60)
    return seen


async def test_without_namespaces_a_name_in_two_repositories_serves_neither(two):
    """This is what --model-namespacing is against."""
    registry = two.registry(repositories=(two.path / "left", two.path / "right"))
    await registry.start()
    assert registry.versions("part") == []
    assert not registry.all_loaded


async def test_an_ensemble_uses_its_neighbour(two, index_of):
    """Every model is served; one that shares its name is found by its neighbours only."""
    registry = registry_of(two, POLL, poll_s=3600)
    await registry.start()
    assert registry.ready
    assert await contents(registry, "whole_left") == ["left"]
    assert await contents(registry, "whole_right") == ["right"]
    with pytest.raises(InvalidArgument, match=AMBIGUOUS):
        registry.model("part")
    with pytest.raises(InvalidArgument, match=AMBIGUOUS):
        registry.model("part", "1")
    names = [entry.name for entry in registry.index()]
    assert names == ["part", "part", "whole_left", "whole_right"]
    assert {entry.state for entry in registry.index(ready_only=True)} == {"READY"}


@pytest.mark.parametrize("mode", [POLL, EXPLICIT])
async def test_an_ensemble_whose_neighbour_goes_uses_the_only_other(two, mode):
    """When the neighbour is back, it is used again."""
    registry = registry_of(two, mode, poll_s=3600, load_models=() if mode is POLL else ("*",))
    await registry.start()
    here, away = two.path / "left" / "part", two.path / "away"
    shutil.move(here, away)
    if mode is POLL:
        await registry.poll()
        assert registry.model("part").content == "right"
    else:
        await registry.unload("part")
        await registry.load("whole_left", NOTHING)
        await registry.load("whole_right", NOTHING)
    assert await contents(registry, "whole_left") == ["right"]
    shutil.move(away, here)
    await (registry.poll() if mode is POLL else registry.load("whole_left", NOTHING))
    assert await contents(registry, "whole_left") == ["left"]
    assert await contents(registry, "whole_right") == ["right"]
    with pytest.raises(InvalidArgument, match=AMBIGUOUS):
        registry.model("part")


async def test_a_load_is_of_every_model_of_that_name(two):
    """A request to load or unload has no namespace to name; models that only share a member's name are left alone."""
    registry = registry_of(two, EXPLICIT)
    await registry.start()
    await registry.load("whole_left", NOTHING)
    assert [model.content for model in registry.models() if model.name == "part"] == ["left"]
    assert registry.model("part").content == "left"
    await registry.load("part", NOTHING)
    assert sorted(model.content for model in registry.models() if model.name == "part") == ["left", "right"]
    await registry.unload("part")
    assert registry.models() == []
