"""Cards: what a worker says of a model is enough for a front, which makes a model folder of it."""

import json
from pathlib import Path

import msgspec
import pytest

from tritium.backends.contract import ModelSource
from tritium.backends.engine import EngineInfo
from tritium.cluster.card import CardFile, ModelCard
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_file, parse_text
from tritium.core.errors import InvalidArgument
from tritium.llm.card_files import CardCache, check_card, make_card
from tritium.llm.loader import LanguageLoader
from tritium.llm.settings import LanguageSettings

TINY_CHAT = Path(__file__).parents[3] / "model_repository" / "tiny_chat"
INFO = EngineInfo("embedded", "1", 1024, 32, 64, 8)


async def none(fleet, **rest):
    raise AssertionError("nothing is to be started")


async def card_of(folder, config='backend: "vllm"\n', settings=None):
    loader = LanguageLoader(settings or LanguageSettings(engine="embedded"), none)
    parsed = from_proto(parse_text(config, "config.pbtxt").message)
    prepared = await loader.prepare(ModelSource(parsed, folder, "1"))
    return make_card("tiny", INFO, prepared, config)


def version(tmp_path, **arguments):
    """Write a version of the sample model with these arguments."""
    folder = tmp_path / "model"
    (folder / "1").mkdir(parents=True)
    given = {"model": str(TINY_CHAT / "1" / "tiny_chat"), **arguments}
    (folder / "1" / "model.json").write_text(json.dumps(given))
    return folder


def lay_out(made, tmp_path):
    """Do as a front does: fetch what is missing, write the folder."""
    cache = CardCache(tmp_path / "cards")
    for file in cache.missing(made.card):
        cache.keep(file, made.paths[file.sha256].read_bytes())
    assert cache.missing(made.card) == []
    return cache.lay_out(made.card, tmp_path / "home")


async def load_elsewhere(folder):
    loader = LanguageLoader(LanguageSettings(), none, weights=False)
    config = from_proto(parse_file(folder / "config.pbtxt").message)
    return await loader.prepare(ModelSource(config, folder, "1"))


async def test_a_front_reads_of_a_card_what_the_worker_read_of_the_model(tmp_path):
    """Tokenizer, template and defaults are the same, and no weights go along."""
    folder = TINY_CHAT
    made = await card_of(folder)
    names = {file.name for file in made.card.files}
    assert "tokenizer.json" in names
    assert not [name for name in names if name.endswith(".safetensors")]
    found = await load_elsewhere(lay_out(made, tmp_path))
    there = await LanguageLoader(LanguageSettings(engine="embedded"), none).prepare(
        ModelSource(from_proto(parse_text('backend: "vllm"', "c").message), folder, "1")
    )
    assert found.engine == "embedded"
    assert found.tokenizer.encode_now("What is a batch?", add_special=True) == there.tokenizer.encode_now(
        "What is a batch?", add_special=True
    )
    assert found.tokenizer.templates.source == there.tokenizer.templates.source
    assert found.defaults == there.defaults


async def test_what_model_json_says_goes_along(tmp_path):
    """Template, parsers, sampling, aliases and adapters reach the front; what is the engine's alone does not."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    folder = version(
        tmp_path,
        chat_template="{{ messages[0].content }}!",
        tool_parser="hermes",
        aliases=["other"],
        override_generation_config={"temperature": 0.25},
        enable_lora=True,
        hf_token="hidden",
        max_model_len=512,
    )
    (folder / "1" / "multi_lora.json").write_text(json.dumps({"fine": str(adapter)}))
    made = await card_of(folder)
    assert "hidden" not in msgspec.json.encode(made.card).decode()
    found = await load_elsewhere(lay_out(made, tmp_path))
    assert found.tokenizer.templates.source == "{{ messages[0].content }}!"
    assert found.defaults.sampling["temperature"] == 0.25
    assert found.defaults.loras == {"fine": str(adapter)}
    assert list(found.aliases) == ["other"]
    assert "max_model_len" not in found.arguments


async def test_sampling_that_another_folder_recommends(tmp_path):
    """generation_config may name a folder that the front does not have: what it says goes along."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "generation_config.json").write_text('{"top_p": 0.5, "temperature": 0.1}')
    folder = version(
        tmp_path, generation_config=str(tmp_path / "elsewhere"), override_generation_config={"temperature": 0.9}
    )
    found = await load_elsewhere(lay_out(await card_of(folder), tmp_path))
    assert found.defaults.sampling == {"top_p": 0.5, "temperature": 0.9}


async def test_a_template_that_is_a_file_goes_along(tmp_path):
    """A template beside model.json is told by its text."""
    folder = version(tmp_path, chat_template="mine.jinja")
    (folder / "1" / "mine.jinja").write_text("{{ messages[0].content }}?\n")
    found = await load_elsewhere(lay_out(await card_of(folder), tmp_path))
    assert found.tokenizer.templates.source == "{{ messages[0].content }}?\n"


async def test_the_engine_of_the_worker_counts(tmp_path):
    """Whatever config.pbtxt says, and whatever is installed here, the front knows which engine runs the model."""
    config = 'backend: "vllm"\nparameters { key: "engine" value { string_value: "vllm" } }\n'
    made = await card_of(TINY_CHAT, config)
    assert (await load_elsewhere(lay_out(made, tmp_path))).engine == "embedded"


async def test_files_are_fetched_once(tmp_path):
    """What the cache has whole is not missing; what was cut short is fetched again."""
    made = await card_of(TINY_CHAT)
    lay_out(made, tmp_path)
    cache = CardCache(tmp_path / "cards")
    assert cache.missing(made.card) == []
    first = made.card.files[0]
    (tmp_path / "cards" / first.sha256).write_bytes(b"")
    assert cache.missing(made.card) == [first]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "../x"}, "no name of a model"),
        ({"model": ""}, "no name of a model"),
        ({"files": (CardFile("../../etc/passwd", 1, "a" * 64),)}, "names no file"),
        ({"files": (CardFile("/etc/passwd", 1, "a" * 64),)}, "names no file"),
        ({"files": (CardFile(".ssh/keys", 1, "a" * 64),)}, "names no file"),
        ({"files": (CardFile("x", 1, "../x"),)}, "names no file"),
        ({"files": (CardFile("x", 1 << 40, "a" * 64),)}, "too many"),
        ({"files": (CardFile("x", 1, "a" * 64),) * 300}, "300 files"),
        ({"info": msgspec.structs.replace(INFO, block_tokens=0)}, "limits that no engine has"),
        ({"info": msgspec.structs.replace(INFO, context_tokens=-1)}, "limits that no engine has"),
        ({"info": msgspec.structs.replace(INFO, max_sequences=-1)}, "limits that no engine has"),
        ({"config": 'backend: "python" default_model_filename: "files/run.py"'}, "of no language model"),
        ({"config": 'platform: "ensemble"'}, "of no language model"),
        ({"config": "backend: {"}, "no sound config.pbtxt"),
        ({"config": "max_batch_size: 99999999999999999999"}, "no sound config.pbtxt"),
        ({"settings": "no JSON"}, "no JSON object"),
        ({"settings": "[]"}, "no JSON object"),
        ({"settings": '{"loras": []}'}, "no JSON object"),
        ({"settings": "[" * 100_000}, "no JSON object"),
        ({"settings": '{"a": %s}' % ("1" * 5000)}, "no JSON object"),
    ],
)
def test_cards_that_no_worker_makes(change, words):
    """What a card says becomes files and settings of a model that this server loads, so that it is looked at before."""
    card = msgspec.structs.replace(ModelCard("m", INFO), **change)
    with pytest.raises(InvalidArgument, match=words):
        check_card(card)
