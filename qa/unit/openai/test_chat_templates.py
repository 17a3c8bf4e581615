"""Chat templates by request: by the name of one of the model's, or brought along where that is trusted."""

import pytest

from tritium.llm import template
from tritium.llm.sandbox import Bounds
from tritium.llm.template import ChatTemplate
from tritium.llm.template_files import ChatTemplates

TEMPLATES = {
    "default": "{{ messages[0].content }}",
    "tool_use": "{{ tools | length }} tools",
    "rag": "{% for d in documents %}{{ d.text }}{% endfor %}",
}


@pytest.fixture(params=[False, True], ids=["untrusted", "trusted"])
def trusted(request, door, monkeypatch):
    compiled = {name: ChatTemplate(source, {}) for name, source in TEMPLATES.items()}
    own = ChatTemplates(compiled, trust_requests=request.param)
    monkeypatch.setattr(door.fleet.tokenizer, "templates", own)
    return request.param


async def _prompt(door, **fields):
    body = {"model": "story", "messages": [{"role": "user", "content": "a model"}], "max_tokens": 1, **fields}
    response = await door.http.post("/v1/chat/completions", json=body)
    if response.status_code != 200:
        return response.json()["error"]
    return door.fleet.tokenizer.decode(door.fleet.requests[-1].token_ids)


async def test_a_template_of_the_model_is_chosen_by_its_name(door, trusted):
    """The default one is used, or that which the request names, with its documents."""
    assert await _prompt(door) == "a model"
    assert await _prompt(door, chat_template="rag", documents=[{"text": "the router"}]) == "the router"


async def test_a_template_is_brought_along_only_where_it_is_trusted(door, trusted):
    """Elsewhere the field is refused by name, and nothing of it is rendered."""
    answer = await _prompt(door, chat_template="{{ messages[0].role }} model")
    if trusted:
        assert answer == "user model"
    else:
        assert (answer["param"], "cannot be sent with a request" in answer["message"]) == ("chat_template", True)
    hidden = await _prompt(door, chat_template_kwargs={"chat_template": "{{ 1 }}"})
    assert hidden["param"] == "chat_template_kwargs.chat_template"


async def test_a_template_that_does_not_end_is_the_requests_fault(door, trusted, monkeypatch):
    """It is stopped and told, and the server goes on."""
    monkeypatch.setattr(template, "_IN_ALL", Bounds(steps=100_000, seconds=1.0, characters=1 << 20))
    answer = await _prompt(
        door, chat_template="{% for a in range(99999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    )
    assert ("was stopped" if trusted else "cannot be sent") in answer["message"]
    assert await _prompt(door) == "a model"


async def test_ending_and_continuing_are_not_asked_for_together(door, trusted):
    """A prompt ends inside the last message or after it."""
    answer = await _prompt(door, continue_final_message=True, add_generation_prompt=True)
    assert answer["param"] == "continue_final_message"
