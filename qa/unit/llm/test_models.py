import pytest

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.catalog import IndexEntry
from tritium.core.errors import NotFound, StillLoading, Unavailable
from tritium.core.model import State
from tritium.llm.facade.alias import alias_of
from tritium.llm.model import LanguageModel, ModelDefaults
from tritium.llm.models import CatalogModels


class TensorModel:
    """A model that is no language model."""

    def __init__(self, name) -> None:
        self.name = name


class SmallCatalog:
    """Some models by name; None stands for one that is known but not ready."""

    def __init__(self, models) -> None:
        self._models = models
        self.asked = []
        self.starting = False

    def model(self, name, version=""):
        if name not in self._models:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        if self._models[name] is None:
            raise Unavailable("not ready")
        return self._models[name]

    def models(self):
        return [model for model in self._models.values() if model is not None]

    def index(self, *, ready_only=False):
        failed = IndexEntry("failed", "1", State.UNAVAILABLE, "model.json is missing")
        return [failed, IndexEntry("gone", "1", State.UNAVAILABLE, "unloaded")]

    async def load(self, name, parameters):
        self.asked.append(("load", name, parameters.config))

    async def unload(self, name, *, dependents=False):
        self.asked.append(("unload", name, dependents))


@pytest.fixture
async def catalog(scripted):
    fleet = scripted.ScriptedFleet(scripted.chat_tokenizer())
    config = from_proto(model_config_pb2.ModelConfig(name="story", backend="vllm"))
    story = LanguageModel(config, "1", fleet, fleet.tokenizer, ModelDefaults(loras={"poet": "/p"}))
    return SmallCatalog({"story": story, "add_sub": TensorModel("add_sub"), "broken": None})


async def test_models_and_adapters_are_found_by_name(catalog):
    """A model is found by its name and an adapter by its own, with the model behind it."""
    models = CatalogModels(catalog)
    assert (models.find("story").lora, models.find("poet").lora) == ("", "poet")
    assert models.find("poet").model is models.find("story").model
    assert [served.name for served in models.all()] == ["story", "poet"]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("nobody", NotFound, "`nobody` does not exist"),
        ("add_sub", NotFound, "`add_sub` is not a language model"),
        ("broken", Unavailable, "not ready"),
        ("failed", NotFound, "`failed` could not be loaded"),
        ("gone", NotFound, "`gone` does not exist"),
    ],
)
async def test_names_that_cannot_be_used(catalog, name, kind, words):
    """Unknown names, tensor models, and models that are not ready, failed to load or were unloaded differ."""
    with pytest.raises(kind, match=words):
        CatalogModels(catalog).find(name)


async def test_loading_is_the_catalogs(catalog):
    """Loading and unloading are handed on."""
    models = CatalogModels(catalog)
    await models.load("story")
    await models.unload("story")
    assert catalog.asked == [("load", "story", ""), ("unload", "story", False)]


async def test_a_model_that_is_being_loaded_can_be_asked_for_later():
    """It is no unknown model: clients get a status at which they try again."""

    class LoadingCatalog(SmallCatalog):
        def model(self, name, version=""):
            raise StillLoading(f"Request for unknown model: '{name}' has no available versions")

    with pytest.raises(Unavailable, match="The model `story` is being loaded"):
        CatalogModels(LoadingCatalog({})).find("story")


async def test_no_name_is_unknown_before_all_models_are_read(catalog):
    """While the server starts, a name that it does not know yet may be that of a model further on."""
    catalog.starting = True
    models = CatalogModels(catalog)
    assert models.find("poet").lora == "poet"
    with pytest.raises(Unavailable, match="still loading its models"):
        models.find("nobody")


async def test_an_alias_is_a_name_of_the_model(scripted):
    """It stands for the model on the OpenAI routes, and has no adapters of its own."""
    fleet = scripted.ScriptedFleet(scripted.chat_tokenizer())
    config = from_proto(model_config_pb2.ModelConfig(name="story", backend="vllm"))
    story = LanguageModel(config, "1", fleet, fleet.tokenizer, ModelDefaults(loras={"poet": "/p"}))
    models = CatalogModels(SmallCatalog({"story": story, "ensemble": alias_of(story, "ensemble", "trtllm")}))
    assert models.find("ensemble").model is story
    assert [served.name for served in models.all()] == ["story", "ensemble", "poet"]
