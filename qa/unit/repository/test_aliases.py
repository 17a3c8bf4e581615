"""Models that are served by other names as well: found, listed and unloaded with the model, one name for one model."""

import dataclasses

import pytest

from tritium.compat.config.model import from_proto
from tritium.core.catalog import LoadParameters
from tritium.core.errors import InvalidArgument, NotFound
from tritium.repository.settings import ControlMode

NOTHING = LoadParameters()
READY = ("READY", "")


@pytest.fixture
def house(house):
    """A house whose models have the aliases that their file names: `also=other,another`."""
    load = house.loader.load

    async def with_aliases(source):
        model = await load(source)
        model.aliases = [
            type(model)(dataclasses.replace(source, config=_named(source.config, name)), house.loader.gate)
            for name in model.content.removeprefix("also=").split(",")
            if model.content.startswith("also=")
        ]
        return model

    house.loader.load = with_aliases
    return house


def _named(config, name):
    proto = type(config.proto)()
    proto.CopyFrom(config.proto)
    proto.name = name
    return from_proto(proto)


async def test_an_alias_is_a_model_of_its_own(house, index_of):
    """It is found by name and version, listed, and has its versions."""
    house.write("chat", content="also=ensemble,old")
    registry = house.registry()
    await registry.start()
    assert registry.model("ensemble") is registry.model("chat").aliases[0]
    assert registry.model("old", "1").name == "old"
    assert registry.versions("old") == ["1"]
    assert [model.name for model in registry.models()] == ["chat", "ensemble", "old"]
    assert index_of(registry) == {name: {"1": READY} for name in ("chat", "ensemble", "old")}
    assert {line.name for line in registry.index(ready_only=True)} == {"chat", "ensemble", "old"}
    with pytest.raises(NotFound, match="'old' version 7"):
        registry.model("old", "7")


async def test_aliases_come_and_go_with_the_model(house, index_of):
    """Loading and unloading by an alias is that of the model; one that it has no longer is forgotten."""
    house.write("chat", content="also=old,older")
    registry = house.registry(ControlMode.EXPLICIT)
    await registry.load("chat", NOTHING)
    await registry.unload("old")
    assert index_of(registry)["older"] == {"1": ("UNAVAILABLE", "unloaded")}
    with pytest.raises(NotFound):
        registry.model("older")
    await registry.load("old", NOTHING)
    assert registry.model("chat").ready
    house.write("chat", content="also=old")
    await registry.load("chat", NOTHING)
    assert set(index_of(registry)) == {"chat", "old"}
    with pytest.raises(NotFound):
        registry.model("older")


async def test_a_name_stands_for_one_model(house, index_of):
    """An alias that is taken, by a model or by another's alias, fails the model that asks for it."""
    house.write("a", content="also=x")
    house.write("b", content="also=x")
    house.write("c", content="also=a")
    house.write("x")
    registry = house.registry(ControlMode.EXPLICIT)
    await registry.load("a", NOTHING)
    for name, words in (
        ("b", "its alias 'x' is an alias of model 'a'"),
        ("c", "its alias 'a' is the name of a model"),
        ("x", "its name 'x' is an alias of model 'a'"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            await registry.load(name, NOTHING)
    assert registry.model("x") is registry.model("a").aliases[0]
    await registry.unload("a")
    await registry.load("b", NOTHING)
    assert registry.model("x") is registry.model("b").aliases[0]
