import json
from pathlib import Path

import pytest

from tritium.backends.contract import ModelSource
from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.llm.loader import LanguageLoader
from tritium.llm.model_files import read_model_files
from tritium.llm.settings import LanguageSettings
from tritium.repository.registry import Registry
from tritium.repository.settings import RegistrySettings


class Starter:
    """Starts scripted fleets and remembers what it was asked for."""

    def __init__(self, scripted) -> None:
        self.scripted = scripted
        self.asked = []
        self.failure = None

    async def __call__(self, fleet, **given):
        self.asked.append((fleet, given))
        if self.failure:
            raise self.failure
        return self.scripted.ScriptedFleet(self.scripted.chat_tokenizer())


@pytest.fixture
def starter(scripted):
    return Starter(scripted)


@pytest.fixture
def folder(tmp_path, scripted):
    """A model folder in vllm_backend's layout, its weights beside model.json."""
    weights = tmp_path / "story" / "1" / "weights"
    weights.mkdir(parents=True)
    scripted.byte_level().save(str(weights / "tokenizer.json"))
    (weights / "generation_config.json").write_text('{"temperature": 0.7, "top_k": 20, "eos_token_id": 0}')
    _arguments(tmp_path / "story", model="weights")
    return tmp_path / "story"


def _arguments(folder, **arguments):
    (folder / "1" / "model.json").write_text(json.dumps(arguments))


def _source(folder, **parameters):
    proto = model_config_pb2.ModelConfig(name="story", backend="vllm")
    for name, value in parameters.items():
        proto.parameters[name].string_value = value
    return ModelSource(from_proto(proto), folder, "1")


async def _load(starter, source, **settings):
    loader = LanguageLoader(LanguageSettings(**{"engine": "embedded", **settings}), starter)
    config = await loader.complete(source.config, source.folder, source.version)
    return await loader.load(ModelSource(config, source.folder, source.version))


async def test_folder_beside_model_json(folder, starter):
    """A relative model is found beside model.json, and the rest of model.json goes to the engine as it is."""
    _arguments(folder, model="weights", enforce_eager=True, future_argument={"deep": 1})
    model = await _load(starter, _source(folder))
    [(fleet, given)] = starter.asked
    assert fleet == ""
    assert given["folder"] == folder / "1" / "weights"
    assert given["arguments"] == {"model": "weights", "enforce_eager": True, "future_argument": {"deep": 1}}
    assert (given["name"], given["engine"]) == ("story", "embedded")
    assert (model.name, model.version, model.ready) == ("story", "1", True)
    assert "text_input" in model.config.inputs


async def test_absolute_path_and_another_tokenizer(folder, starter, tmp_path, scripted):
    """model may be a path, and tokenizer another folder."""
    other = tmp_path / "tokenizer"
    other.mkdir()
    scripted.byte_level(300).save(str(other / "tokenizer.json"))
    _arguments(folder, model=str(folder / "1" / "weights"), tokenizer=str(other))
    model = await _load(starter, _source(folder))
    assert model.tokenizer.vocabulary_size < 310


async def test_recommended_sampling(folder, starter):
    """generation_config.json gives defaults, unless model.json says vLLM's own are wanted."""
    assert (await _load(starter, _source(folder))).defaults.sampling == {"temperature": 0.7, "top_k": 20}
    _arguments(folder, model="weights", generation_config="vllm")
    assert (await _load(starter, _source(folder))).defaults.sampling == {}


async def test_overridden_sampling(folder, starter):
    """override_generation_config goes before what the model recommends, and bounds answers as vLLM's server does."""
    _arguments(folder, model="weights", override_generation_config={"temperature": 0.2, "max_new_tokens": 9, "x": 1})
    defaults = (await _load(starter, _source(folder))).defaults
    assert (defaults.sampling, defaults.most_tokens) == ({"temperature": 0.2, "top_k": 20}, 9)
    _arguments(folder, model="weights", generation_config="vllm")
    config = _source(folder, **{"engine.override_generation_config": '{"presence_penalty": 0.5}'})
    defaults = (await _load(starter, config)).defaults
    assert (defaults.sampling, defaults.most_tokens) == ({"presence_penalty": 0.5}, None)


async def test_longest_answer_of_another_folder(folder, starter, tmp_path):
    """max_new_tokens of generation_config.json bounds answers where model.json names that file, as in vLLM's server."""
    (tmp_path / "generation_config.json").write_text('{"max_new_tokens": 7}')
    _arguments(folder, model="weights", generation_config=str(tmp_path))
    assert (await _load(starter, _source(folder))).defaults.most_tokens == 7
    (folder / "1" / "weights" / "generation_config.json").write_text('{"max_new_tokens": 7}')
    _arguments(folder, model="weights")
    assert (await _load(starter, _source(folder))).defaults.most_tokens is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"temperature": "hot"}, "temperature must be .* got 'hot'"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ("hot", "override_generation_config is a str, not an object"),
    ],
)
async def test_broken_override(folder, starter, override, said):
    """A value that sampling cannot have is told at the load, not to every client."""
    _arguments(folder, model="weights", override_generation_config=override)
    with pytest.raises(InvalidArgument, match=said):
        await _load(starter, _source(folder))
    assert starter.asked == []


async def test_hugging_face_cache(folder, starter, tmp_path, monkeypatch):
    """The name of a hub repository is found in the cache, without the network."""
    cache = tmp_path / "cache"
    snapshot = cache / "models--tales--story" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    (folder / "1" / "weights").rename(snapshot)
    (snapshot / "model.safetensors").write_bytes(b"")
    (cache / "models--tales--story" / "refs").mkdir()
    (cache / "models--tales--story" / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    _arguments(folder, model="tales/story")
    await _load(starter, _source(folder))
    assert starter.asked[0][1]["folder"] == snapshot
    (snapshot / "model.safetensors").unlink()
    await _load(starter, _source(folder), engine="vllm")
    assert starter.asked[1][1]["folder"] == Path("tales/story")


async def test_engine_arguments_of_the_configuration(folder, starter):
    """Parameters `engine.*` of config.pbtxt are engine arguments too: JSON where they are, and before model.json's."""
    _arguments(folder, model="weights", max_model_len=512, dtype="float32")
    parameters = {"max_model_len": "2048", "enforce_eager": "true", "scheduling_policy": "priority", "x": '{"a": [1]}'}
    await _load(starter, _source(folder, **{f"engine.{name}": value for name, value in parameters.items()}))
    given = starter.asked[0][1]["arguments"]
    assert given == {
        "max_model_len": 2048,
        "dtype": "float32",
        "enforce_eager": True,
        "scheduling_policy": "priority",
        "x": {"a": [1]},
    } | {name: given[name] for name in ("model",) if name in given}


async def test_fleet_setting(folder, starter):
    """The fleet comes from the configuration's parameter, and a setting for the model wins over it."""
    await _load(starter, _source(folder, fleet="workers=2"))
    await _load(starter, _source(folder, fleet="workers=2"), fleets={"story": "prefill=1,decode=1"})
    await _load(starter, _source(folder, fleet="workers=2"), fleets={"other": "workers=9"})
    assert [fleet for fleet, _ in starter.asked] == ["workers=2", "prefill=1,decode=1", "workers=2"]


@pytest.mark.parametrize(
    ("setting", "parameter", "installed", "chosen"),
    [
        ("auto", "", True, "vllm"),
        ("auto", "", False, "embedded"),
        ("auto", "embedded", True, "embedded"),
        ("mocker", "embedded", True, "mocker"),
    ],
)
async def test_engine(folder, starter, monkeypatch, setting, parameter, installed, chosen):
    """The setting names the engine, else the configuration, else vLLM where it is installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    parameters = {"engine": parameter} if parameter else {}
    await _load(starter, _source(folder, **parameters), engine=setting)
    assert starter.asked[0][1]["engine"] == chosen


async def test_adapters(folder, starter):
    """multi_lora.json names the adapters; paths beside model.json are made whole for the workers."""
    _arguments(folder, model="weights", enable_lora="true")
    (folder / "1" / "poet").mkdir()
    (folder / "1" / "multi_lora.json").write_text('{"poet": "poet", "bard": "/far/bard"}')
    model = await _load(starter, _source(folder))
    paths = {"poet": str(folder / "1" / "poet"), "bard": "/far/bard"}
    assert model.defaults.loras == paths
    assert starter.asked[0][1]["arguments"]["lora_modules"] == paths


async def test_byte_order_mark(folder, starter):
    """A model.json saved by an editor that adds a byte order mark is read."""
    (folder / "1" / "model.json").write_bytes(b'\xef\xbb\xbf{"model": "weights"}')
    assert (await _load(starter, _source(folder))).ready


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"1/model\.json is missing"),
        (b'{"model": "x",}', r"1/model\.json:1:1[45]: not JSON"),
        (b'{\n "model" "x"}', r"1/model\.json:2:10: not JSON: Expecting ':' delimiter"),
        (b"[1]", "holds a list, not an object"),
        (b"{}", '"model" is missing or no string'),
        (b'{"model": 3}', '"model" is missing or no string'),
        (b"\xff\xfe{\x00", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"model": "nowhere"}', "names the model 'nowhere', which is no folder in"),
        (b'{"model": "weights", "enable_lora": true}', r"multi_lora\.json is missing"),
    ],
)
async def test_broken_model_json(folder, starter, content, words):
    """A model.json that cannot be used is refused with its path and, where it is no JSON, line and column."""
    path = folder / "1" / "model.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=words):
        await _load(starter, _source(folder))
    assert not starter.asked


@pytest.mark.parametrize(
    ("content", "fleet", "place", "words"),
    [
        (b'{"model": "weights"}', "workers=2", None, ""),
        (b'{\n "model" "x"}', "", ("1/model.json", 2, 10), "not JSON: Expecting ':' delimiter"),
        (b'{"model": "nowhere"}', "", ("1/model.json", 0, 0), "names the model 'nowhere'"),
        (b'{"model": "weights", "enable_lora": true}', "", ("1/multi_lora.json", 0, 0), "is missing"),
        (b'{"model": "weights"}', "decod=2", ("config.pbtxt", 2, 49), "fleet: unknown option 'decod'"),
    ],
)
async def test_what_would_fail_is_found_before(folder, starter, content, fleet, place, words):
    """A survey with this loader puts the problem at its place, and a load fails for the same reason."""
    (folder / "1" / "model.json").write_bytes(content)
    parameter = f'parameters {{ key: "fleet" value {{ string_value: "{fleet}" }} }}\n' if fleet else ""
    (folder / "config.pbtxt").write_text(f'backend: "vllm"\n{parameter}')
    loader = LanguageLoader(LanguageSettings("embedded"), starter)
    registry = Registry(RegistrySettings((folder.parent,)), {"vllm": loader})
    problems = registry.survey().problems
    assert [(p.path, p.line, p.column) for p in problems] == ([(str(folder / place[0]), *place[1:])] if place else [])
    await registry.start()
    reasons = [entry.reason for entry in registry.index() if entry.reason]
    assert len(reasons) == len(problems)
    for problem, reason in zip(problems, reasons, strict=True):
        assert words in problem.message
        assert problem.message in reason
    await registry.close()


def test_a_fleet_that_is_overruled_does_no_harm(folder, starter):
    """Where a setting gives the model its fleet, the one in its configuration is not read."""
    source = _source(folder, fleet="decod=2")
    loader = LanguageLoader(LanguageSettings("embedded", {"story": "workers=1"}), starter)
    assert loader.check(source.config, folder, "1") == []
    assert len(LanguageLoader(LanguageSettings("embedded"), starter).check(source.config, folder, "1")) == 1


def test_a_hub_name_cannot_be_fetched_offline(folder, starter, monkeypatch):
    """vLLM fetches what is not on the machine, which is a warning; told to be offline, it could not."""
    _arguments(folder, model="tales/story")
    loader = LanguageLoader(LanguageSettings("vllm"), starter)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    [problem] = loader.check(_source(folder).config, folder, "1")
    assert (problem.fatal, "is fetched from the Hugging Face hub" in problem.message) == (False, True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    [problem] = loader.check(_source(folder).config, folder, "1")
    assert (problem.fatal, "not in the Hugging Face cache" in problem.message) == (True, True)


@pytest.mark.parametrize(("model", "found"), [("s3://bucket/story", 0), ("{folder}/story.gguf", 0), ("/no/such", 1)])
def test_vllm_may_find_what_is_no_folder(folder, starter, model, found):
    """Addresses and single files are vLLM's to judge; a path that is not there helps no engine."""
    (folder / "story.gguf").touch()
    _arguments(folder, model=model.format(folder=folder))
    loader = LanguageLoader(LanguageSettings("vllm"), starter)
    assert len(loader.check(_source(folder).config, folder, "1")) == found


async def test_missing_tokenizer(folder, starter):
    """A model folder without a tokenizer is refused before any worker starts."""
    (folder / "1" / "weights" / "tokenizer.json").unlink()
    with pytest.raises(InvalidArgument, match=r"no tokenizer\.json"):
        await _load(starter, _source(folder))
    assert not starter.asked


async def test_fleet_that_does_not_start(folder, starter):
    """What a worker says when it cannot load the model is what loading fails with."""
    starter.failure = ModelFailed("unknown architecture")
    with pytest.raises(ModelFailed, match="unknown architecture"):
        await _load(starter, _source(folder))


def test_files_are_read_without_the_engine(folder):
    """Reading model.json imports no engine."""
    assert read_model_files(folder / "1").model == "weights"
