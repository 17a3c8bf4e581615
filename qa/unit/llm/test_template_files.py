import json

import pytest

from tritium.core.errors import InvalidArgument
from tritium.llm.errors import FieldRefused
from tritium.llm.template import ChatTemplate
from tritium.llm.template_files import ChatTemplates, read_templates

USER = [{"role": "user", "content": "hi"}]


def _config(folder, **config):
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _rendered(templates, wanted=None, *, tools=False):
    return templates.choose(wanted, tools=tools).render(USER)


def test_named_templates_of_the_config(tmp_path):
    """Of a list of templates the default one is used, that for tools with tools, and any by its name."""
    named = {"default": "D", "tool_use": "T", "rag": "R"}
    _config(tmp_path, chat_template=[{"name": name, "template": text} for name, text in named.items()])
    templates = read_templates(tmp_path)
    assert _rendered(templates) == "D"
    assert _rendered(templates, tools=True) == "T"
    assert _rendered(templates, "rag", tools=True) == "R"


def test_templates_in_files_of_their_own(tmp_path):
    """chat_template.jinja and additional_chat_templates/ go before the config, as transformers saves them now."""
    _config(tmp_path, chat_template="old")
    (tmp_path / "chat_template.json").write_text('{"chat_template": "older"}')
    assert _rendered(read_templates(tmp_path)) == "old"
    (tmp_path / "chat_template.jinja").write_text("new")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    templates = read_templates(tmp_path)
    assert (_rendered(templates), _rendered(templates, tools=True)) == ("new", "tools")


def test_templates_are_transformers(tmp_path, scripted):
    """What transformers saves, one template or several, is read as transformers reads it."""
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=scripted.byte_level(),
        bos_token="<|start|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
    )
    for number, saved in enumerate(
        ["{{ bos_token }}{{ messages[0].content }}", {"default": "D", "tool_use": "{{ tools | length }}", "rag": "R"}]
    ):
        folder = tmp_path / str(number)
        fast.chat_template = saved
        fast.save_pretrained(folder)
        templates = read_templates(folder)
        again = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        for tools in (None, [{"type": "function"}]):
            expected = again.apply_chat_template(USER, tools=tools, tokenize=False)
            assert templates.choose(tools=tools is not None).render(USER, tools=tools) == expected


def test_template_of_a_processor(tmp_path):
    """chat_template.json is read where there is no other."""
    (tmp_path / "chat_template.json").write_text('{"chat_template": "{{ messages[0].content }}"}')
    assert _rendered(read_templates(tmp_path)) == "hi"


def test_special_tokens_are_variables(tmp_path):
    """Every special token is there by its name, however it is written; additional ones are a list."""
    source = "{{ bos_token }}{{ pad_token }}{{ image_token }}{{ additional_special_tokens | join }}"
    source += "{{ unk_token is defined }}"
    tokens = {"bos_token": {"content": "<s>"}, "pad_token": "<p>", "image_token": "<i>"}
    _config(tmp_path, chat_template=source, additional_special_tokens=["<a>", {"content": "<b>"}], **tokens)
    assert _rendered(read_templates(tmp_path)) == "<s><p><i><a><b>False"


def test_an_operators_template_goes_before_the_models(tmp_path):
    """It is a file, the name of one of the model's, or a template itself."""
    _config(tmp_path, chat_template=[{"name": "default", "template": "D"}, {"name": "rag", "template": "R"}])
    (tmp_path / "mine.jinja").write_text("mine")
    assert _rendered(read_templates(tmp_path, str(tmp_path / "mine.jinja")), tools=True) == "mine"
    assert _rendered(read_templates(tmp_path, "rag")) == "R"
    assert _rendered(read_templates(tmp_path, "{{ messages[0].role }}")) == "user"
    with pytest.raises(InvalidArgument, match="is no file, and no template of the model"):
        read_templates(tmp_path, "absent.jinja")


def test_a_request_may_bring_a_template_only_where_it_is_trusted():
    """One that is not the name of a model's own is refused, unless the operator trusts requests."""
    own = {"default": ChatTemplate("D", {"bos_token": "<s>"}), "rag": ChatTemplate("R", {})}
    with pytest.raises(FieldRefused, match="cannot be sent with a request") as refused:
        ChatTemplates(own).choose("{{ messages }}")
    assert (refused.value.field, refused.value.hint) == ("chat_template", "name one of the model's own: default or rag")
    trusting = ChatTemplates(own, trust_requests=True)
    assert _rendered(trusting, "{{ bos_token }}{{ messages[0].role }}") == "<s>user"
    assert trusting.choose("x{{ 1 }}") is trusting.choose("x{{ 1 }}")
    for source in ("{% if %}", "x" * 2_000_000):
        with pytest.raises(FieldRefused):
            trusting.choose(source)
    for number in range(40):
        assert _rendered(trusting, f"{{{{ {number} }}}}") == str(number)


def test_a_model_without_a_template_says_so(tmp_path):
    """A base model chats with nobody, which the request is told; so is one whose several have no default."""
    with pytest.raises(InvalidArgument, match="the model has no chat template"):
        read_templates(tmp_path).choose()
    _config(tmp_path, chat_template=[{"name": "rag", "template": "R"}])
    with pytest.raises(InvalidArgument, match="several chat templates and none by default") as refused:
        read_templates(tmp_path).choose()
    assert refused.value.hint == "chat_template: rag"


@pytest.mark.parametrize("template", [[{"name": "x"}], ["x"]])
def test_a_list_that_is_none_of_templates(tmp_path, template):
    """A list without names is told with the file."""
    _config(tmp_path, chat_template=template)
    with pytest.raises(InvalidArgument, match=r"tokenizer_config\.json has a chat_template that is no list"):
        read_templates(tmp_path)
