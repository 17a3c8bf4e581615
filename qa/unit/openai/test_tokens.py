import threading

import pytest

from tritium.openai import tokens
from tritium.openai.tokens import check_tokens


async def _post(door, path, **body):
    return (await door.http.post(path, json=body)).json()


async def test_text_there_and_back(door):
    """A text becomes the ids that a completion of it is run with, and becomes itself again."""
    text = "naïve café 🙂"
    ids = door.fleet.tokenizer.encode_now(text, add_special=True)
    answer = await _post(door, "/tokenize", model="story", prompt=text, return_token_strs=True)
    assert (answer["tokens"], answer["count"], answer["max_model_len"]) == (ids, len(ids), 256)
    assert len(answer["token_strs"]) == len(ids)
    assert await _post(door, "/detokenize", model="story", tokens=ids) == {"prompt": "<|start|>" + text}
    bare = await _post(door, "/tokenize", prompt=text, add_special_tokens=False)
    assert bare["tokens"] == ids[1:]
    assert "token_strs" not in bare


async def test_many_tokens_become_text_in_a_thread(door, monkeypatch):
    """What takes long is done aside, and gives the same text and the same refusal."""
    threads = []

    def noted(*arguments):
        threads.append(threading.get_ident())
        return check_tokens(*arguments)

    monkeypatch.setattr(tokens, "check_tokens", noted)
    ids = door.fleet.tokenizer.encode_now("a model ", add_special=False)
    few = await _post(door, "/detokenize", tokens=ids)
    many = await _post(door, "/detokenize", tokens=ids * 10_000)
    assert many["prompt"] == few["prompt"] * 10_000
    assert (await _post(door, "/detokenize", tokens=[*ids * 10_000, -1]))["error"]["param"] == "tokens"
    assert threads[0] == threading.get_ident()
    assert threading.get_ident() not in threads[1:]


async def test_conversation(door):
    """Messages become the ids that a chat of them is run with."""
    messages = [{"role": "user", "content": "hello"}]
    await door.client.chat.completions.create(model="story", messages=messages)
    answer = await _post(door, "/tokenize", messages=messages)
    assert answer["tokens"] == door.fleet.requests[0].token_ids
    shorter = await _post(door, "/tokenize", messages=messages, add_generation_prompt=False)
    assert shorter["tokens"] == answer["tokens"][:-1]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": []}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"prompt": "a" * 4_200_000}, "prompt"),
        ("/tokenize", {"prompt": "x", "colour": 1}, "colour"),
        ("/tokenize", {"prompt": "x", "model": "nobody"}, "model"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [10_000_000]}, "tokens"),
    ],
)
async def test_refused(door, path, body, field):
    """What is at fault is named."""
    answer = await door.http.post(path, json=body)
    assert answer.status_code == (404 if field == "model" else 400)
    assert answer.json()["error"]["param"] == field
