"""Python models and ensembles offered through the OpenAI API by their configuration, with the openai package."""

import re
import textwrap
import time

import httpx
import openai
import pytest
from qa.e2e.product import Product

# A model that repeats what it is asked, word by word where it is decoupled, and says how it was asked.
MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.decoupled = '"decoupled":true' in args["model_config"].replace(" ", "")

    def execute(self, requests):
        return None if self.decoupled and [self.stream(r) for r in requests] else [self.whole(r) for r in requests]

    def text(self, request):
        value = lambda name: pb_utils.get_input_tensor_by_name(request, name)
        question = value("QUESTION").as_numpy().ravel()[0].decode()
        if question == "fail":
            raise ValueError("no answer to that")
        heat, length = value("HEAT"), value("LENGTH")
        if heat is not None:
            question += f" heat={heat.as_numpy().ravel()[0]:.2f}"
        words = question.split(" ")
        return words if length is None else words[: int(length.as_numpy().ravel()[0])]

    def answer(self, text):
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWER", np.array([text.encode()], dtype=object))])

    def whole(self, request):
        try:
            return self.answer(" ".join(self.text(request)))
        except ValueError as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))

    def stream(self, request):
        sender = request.get_response_sender()
        try:
            for place, word in enumerate(self.text(request)):
                sender.send(self.answer(word if place == 0 else " " + word))
                while word == "forever" and not sender.is_cancelled():
                    time.sleep(0.01)
        except ValueError as error:
            sender.send(pb_utils.InferenceResponse([], pb_utils.TritonError(str(error))))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return True
"""
TENSORS = """
input [
  { name: "QUESTION" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "HEAT" data_type: TYPE_FP32 dims: [ 1 ] optional: true },
  { name: "LENGTH" data_type: TYPE_INT32 dims: [ 1 ] optional: true }
]
output [ { name: "ANSWER" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
OFFER = """
parameters { key: "openai.input" value { string_value: "QUESTION" } }
parameters { key: "openai.output" value { string_value: "ANSWER" } }
parameters { key: "openai.max_tokens" value { string_value: "LENGTH" } }
parameters { key: "openai.chat_template" value { string_value: "chat.jinja" } }
"""
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
PIPELINE = """
platform: "ensemble"
input [ { name: "IN" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
ensemble_scheduling { step [ {
  model_name: "whole" model_version: -1
  input_map { key: "QUESTION" value: "IN" } output_map { key: "ANSWER" value: "OUT" }
} ] }
parameters { key: "openai.input" value { string_value: "IN" } }
parameters { key: "openai.output" value { string_value: "OUT" } }
parameters { key: "openai.others" value { string_value: "ignore" } }
parameters { key: "openai.tokenizer" value { string_value: "words" } }
"""


def _write(repository, name, config, *, code=True):
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(f'name: "{name}"\n{config}')
    (folder / "chat.jinja").write_text(TEMPLATE)
    if code:
        (folder / "1" / "model.py").write_text(textwrap.dedent(MODEL))
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    heat = 'parameters { key: "openai.temperature" value { string_value: "HEAT" } }'
    _write(repository, "whole", f'backend: "python"\nmax_batch_size: 4\n{TENSORS}{OFFER}{heat}')
    decoupled = "model_transaction_policy { decoupled: true }"
    _write(repository, "words", f'backend: "python"\n{decoupled}\n{TENSORS}{OFFER}')
    words = _write(repository, "pipeline", PIPELINE, code=False) / "words"
    words.mkdir()
    (words / "tokenizer.json").write_text(
        '{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},'
        ' "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}}'
    )
    server = Product([str(repository), "--openai-key", "secret"])
    assert "OpenAI" in server.ports, server.output
    with openai.OpenAI(base_url=f"http://{server.url('OpenAI')}/v1", api_key="secret", max_retries=0, timeout=60) as it:
        yield it
    assert server.stop() == 0, server.output


def test_models_are_listed(client):
    """Offered models are among the others."""
    assert {model.id for model in client.models.list()} == {"whole", "words", "pipeline"}
    assert client.models.retrieve("words").id == "words"
    assert client.get("/models/words/ready", cast_to=object) == {"id": "words", "ready": True}


@pytest.mark.parametrize("model", ["whole", "words", "pipeline"])
def test_completion(client, model):
    """The prompt goes into the text input and the text output is the completion, whatever the model is."""
    answer = client.completions.create(model=model, prompt="one two three")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("one two three", "stop")
    several = client.completions.create(model=model, prompt=["a b", "c"], echo=True)
    assert [choice.text for choice in several.choices] == ["a ba b", "cc"]


def test_fields_are_inputs(client):
    """Fields reach the inputs that they are mapped to; another is refused by its name."""
    answer = client.completions.create(model="whole", prompt="a b c", temperature=0.25)
    assert answer.choices[0].text == "a b c heat=0.25"
    answer = client.completions.create(model="whole", prompt="a b c", max_tokens=2)
    assert answer.choices[0].text == "a b"
    with pytest.raises(openai.BadRequestError, match="temperature is not taken by the model `words`") as refused:
        client.completions.create(model="words", prompt="a", temperature=0.5)
    assert refused.value.param == "temperature"
    assert client.completions.create(model="pipeline", prompt="a", temperature=0.5).choices[0].text == "a"


def test_chat(client):
    """A conversation is rendered by the model's template."""
    talk = [{"role": "system", "content": "be"}, {"role": "user", "content": "kind"}]
    answer = client.chat.completions.create(model="whole", messages=talk, max_completion_tokens=3)
    assert answer.choices[0].message.content == "system: be user:"
    assert answer.usage is None
    with pytest.raises(openai.BadRequestError, match="has no chat template"):
        client.chat.completions.create(model="pipeline", messages=talk)


@pytest.mark.parametrize(("model", "events"), [("words", 3), ("whole", 1)])
def test_streams(client, model, events):
    """A decoupled model's responses are the pieces of a stream; any other has one piece."""
    stream = client.completions.create(model=model, prompt="one two three", stream=True)
    pieces = [event.choices[0] for event in stream]
    assert "".join(piece.text for piece in pieces) == "one two three"
    assert len([piece for piece in pieces if piece.text]) == events
    assert pieces[-1].finish_reason == "stop"
    talk = [{"role": "user", "content": "x y"}]
    chat = [event.choices[0] for event in client.chat.completions.create(model=model, messages=talk, stream=True)]
    assert chat[0].delta.role == "assistant"
    assert "".join(piece.delta.content or "" for piece in chat) == "user: x y "


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings(client, stream):
    """Stop strings are looked for in the text, where the model has no input for them."""
    answer = client.completions.create(model="words", prompt="one two three", stop=["o t"], stream=stream)
    text = "".join(event.choices[0].text for event in answer) if stream else answer.choices[0].text
    assert text == "one tw"


def test_usage_is_counted_by_a_tokenizer(client):
    """Where the configuration names a tokenizer, tokens are counted; elsewhere nothing is said."""
    usage = client.completions.create(model="pipeline", prompt="one two three").usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 3)
    options = {"include_usage": True}
    last = list(client.completions.create(model="pipeline", prompt="a b", stream=True, stream_options=options))[-1]
    assert last.usage.total_tokens == 4


def test_tokens_are_entered_into_the_books_of_the_key(client):
    """What a tokenizer counts is charged to the client's key, also of streams that do not tell it."""

    def spent():
        page = httpx.get(str(client.base_url).replace("/v1/", "/metrics"), headers=client.auth_headers, timeout=60).text
        return [
            int(float(re.search(rf'tritium_key_{kind}_tokens_total{{key="key-1"}} (\S+)', page)[1]))
            for kind in ("prompt", "answer")
        ]

    before = spent()
    client.completions.create(model="pipeline", prompt="one two three")
    list(client.completions.create(model="pipeline", prompt="a b", stream=True))
    until_s = time.monotonic() + 60
    while sum(spent()) < sum(before) + 10 and time.monotonic() < until_s:  # entered when the stream is over
        time.sleep(0.02)
    assert [after - was for after, was in zip(spent(), before, strict=True)] == [5, 5]


@pytest.mark.parametrize("model", ["whole", "words"])
def test_failures(client, model):
    """A model that fails is an error of the request."""
    with pytest.raises(openai.APIError, match="no answer to that"):
        client.completions.create(model=model, prompt="fail")
    with pytest.raises(openai.APIError, match="no answer to that"):
        list(client.completions.create(model=model, prompt="fail", stream=True))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": [1, 2]}, "takes text"),
        ({"prompt": "a", "n": 2}, "n must be 1"),
        ({"prompt": "a", "max_tokens": 2**40}, "does not fit the input 'LENGTH'"),
        ({"prompt": "a", "logprobs": 2}, "logprobs is not taken"),
    ],
)
def test_refused(client, fields, words):
    """What a model of text cannot do is refused by name."""
    with pytest.raises(openai.BadRequestError, match=words):
        client.completions.create(model="whole", **fields)


def test_routes_that_need_tokens_say_so(client):
    """Other routes tell where the model is served."""
    with pytest.raises(openai.NotFoundError, match="served by /v1/completions and /v1/chat/completions"):
        client.embeddings.create(model="whole", input="a")


def test_time_limit(tmp_path):
    """An answer that takes too long is a 504, or ends its stream with an error; the model hears of it."""
    decoupled = "model_transaction_policy { decoupled: true }"
    _write(tmp_path, "words", f'backend: "python"\n{decoupled}\n{TENSORS}{OFFER}')
    server = Product([str(tmp_path), "--openai-timeout-s=3"])
    with openai.OpenAI(base_url=f"http://{server.url('OpenAI')}/v1", api_key="none", max_retries=0, timeout=60) as it:
        with pytest.raises(openai.InternalServerError, match="longer than the 3 s"):
            it.completions.create(model="words", prompt="a forever")
        with pytest.raises(openai.APIError, match="longer than the 3 s"):  # noqa: PT012  the stream itself fails
            for chunk in it.completions.create(model="words", prompt="a forever", stream=True):
                assert chunk.choices[0].text in {"a", " forever"}
        assert it.completions.create(model="words", prompt="a b").choices[0].text == "a b"
    assert server.stop() == 0, server.output
