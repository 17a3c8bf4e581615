import json

import pytest

from tritium.core.errors import InvalidArgument
from tritium.llm.errors import ContextExceeded
from tritium.llm.tokenizer import Tokenizer


@pytest.fixture
def folder(tmp_path, scripted):
    scripted.byte_level().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def _config(folder, **config):
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


async def test_short_and_long_prompts_are_encoded_alike(folder):
    """A long prompt is encoded in a thread; its ids are those of the same tokenizer."""
    tokenizer = Tokenizer.load(folder)
    text = "a model repository is a folder, naïve café 日本語 " * 400
    assert len(text) > 8_192
    assert await tokenizer.encode(text, add_special=True) == tokenizer.encode_now(text, add_special=True)


async def test_special_tokens_are_added_on_demand(folder):
    """Plain prompts get the tokenizer's start token; rendered templates do not."""
    tokenizer = Tokenizer.load(folder)
    assert (await tokenizer.encode("hi", add_special=True))[0] == 1
    assert (await tokenizer.encode("hi", add_special=False))[0] != 1


async def test_stored_truncation_is_not_a_limit(folder):
    """A tokenizer.json saved with truncation and padding encodes prompts whole all the same."""
    saved = json.loads((folder / "tokenizer.json").read_text())
    saved["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(saved))
    assert len(await Tokenizer.load(folder).encode("one two three four five six", add_special=False)) > 3


def test_prompts_that_cannot_fit_are_refused_unencoded(folder):
    """The longest token bounds what a context can hold; the bound is never above what encoding gives."""
    tokenizer = Tokenizer.load(folder)
    longest = max(len(piece) for piece in tokenizer.table.pieces)
    for text in ("a model repository " * 100, " " * 100, "日本語" * 100, "<|end|>" * 100):
        assert len(text) <= longest * len(tokenizer.encode_now(text, add_special=False))
        tokenizer.check_room(text, len(tokenizer.encode_now(text, add_special=False)), "prompt")
    with pytest.raises(ContextExceeded, match="is 64 tokens, but at least 1000 were requested"):
        tokenizer.check_room("a" * longest * 1000, 64, "prompt")


def test_no_bound_where_text_may_vanish(folder):
    """A tokenizer that drops or joins text without limit refuses nothing beforehand."""
    saved = json.loads((folder / "tokenizer.json").read_text())
    for change in (
        {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
        {"pre_tokenizer": {"type": "WhitespaceSplit"}},
        {"added_tokens": [{**token, "rstrip": True} for token in saved["added_tokens"]]},
    ):
        (folder / "tokenizer.json").write_text(json.dumps(saved | change))
        Tokenizer.load(folder).check_room(" " * 1_000_000, 64, "prompt")


def test_template_of_the_config(folder):
    """chat_template of tokenizer_config.json is used, with the special tokens written in either way."""
    _config(
        folder,
        chat_template="{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
        bos_token={"content": "<|start|>", "special": True},
        eos_token="<|end|>",
    )
    assert Tokenizer.load(folder).template.render([{"role": "user", "content": "x"}]) == "<|start|>x<|end|>"


def test_named_templates(folder):
    """Of several named templates the default one is used."""
    _config(folder, chat_template=[{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}])
    assert Tokenizer.load(folder).template.render([{"role": "user", "content": ""}]) == "D"


def test_template_file_wins(folder):
    """chat_template.jinja, where transformers saves templates now, goes before the config's."""
    _config(folder, chat_template="old")
    (folder / "chat_template.jinja").write_text("new")
    assert Tokenizer.load(folder).template.render([{"role": "user", "content": ""}]) == "new"


def test_model_without_a_template(folder):
    """A base model has none, which is no error until somebody chats with it."""
    assert Tokenizer.load(folder).template is None


def test_missing_tokenizer(tmp_path):
    """A folder without tokenizer.json is refused by its path."""
    with pytest.raises(InvalidArgument, match=r"no tokenizer\.json in"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", "{}", "tokenizer.json is not a tokenizer"),
        ("tokenizer_config.json", "{", r"tokenizer_config.json:1:2: not JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json holds a list, not an object"),
        ("chat_template.jinja", "{% if %}", "chat template does not parse: line 1"),
    ],
)
def test_broken_files_are_named(folder, name, content, words):
    """A broken file is named when the model loads, with what is wrong about it."""
    (folder / name).write_text(content)
    with pytest.raises(InvalidArgument, match=words):
        Tokenizer.load(folder)
