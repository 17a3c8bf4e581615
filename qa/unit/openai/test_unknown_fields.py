import pytest

from tritium.openai.options import OpenAIOptions

BODIES = {
    "/v1/chat/completions": {"model": "story", "messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"model": "story", "prompt": "x"},
    "/v1/responses": {"model": "story", "input": "x"},
    "/tokenize": {"model": "story", "prompt": "x"},
}


@pytest.mark.parametrize("path", BODIES)
async def test_refused_or_passed_over(open_door, path):
    """A field that nobody knows is refused by name, unless the operator has such fields ignored."""
    body = {**BODIES[path], "colour": "red"}
    async with open_door() as door:
        answer = await door.http.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_parameter")
        assert answer.json()["error"]["param"] == "colour"
    async with open_door(OpenAIOptions(ignore_unknown=True)) as door:
        assert (await door.http.post(path, json=body)).status_code == 200
        wrong = await door.http.post(path, json={**body, "model": 5})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "model")
