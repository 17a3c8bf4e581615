"""How a tensor model's configuration says that it is a language model, and what is refused of it."""

import pytest
from google.protobuf import text_format

from tritium.backends.contract import ModelSource
from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument
from tritium.core.model import Model
from tritium.core.request import InferResponse
from tritium.core.tensor import Tensor, join_bytes
from tritium.llm.text_models.book import TextModels, check_offer
from tritium.llm.text_models.mapping import read_mapping

TENSORS = """
name: "bot" backend: "python"
input [
  { name: "ASK" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "TALK" data_type: TYPE_STRING dims: [ 1 ] optional: true },
  { name: "HEAT" data_type: TYPE_FP32 dims: [ 1 ] optional: true },
  { name: "STOPS" data_type: TYPE_STRING dims: [ -1 ] optional: true },
  { name: "FLOW" data_type: TYPE_BOOL dims: [ 1 ] optional: true }
]
output [
  { name: "SAY" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "WHY" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "SCORE" data_type: TYPE_FP32 dims: [ 1 ] }
]
"""
USUAL = {"input": "ASK", "output": "SAY"}


def _source(tmp_path, parameters, text=TENSORS):
    proto = text_format.Parse(text, model_config_pb2.ModelConfig())
    for name, value in parameters.items():
        proto.parameters[f"openai.{name}"].string_value = value
    return ModelSource(from_proto(proto), tmp_path, "1")


def _mapping(tmp_path, parameters, text=TENSORS):
    source = _source(tmp_path, parameters, text)
    return read_mapping(source.config, source.folder)


def test_a_model_without_parameters_is_not_offered(tmp_path):
    """Nothing is offered unasked."""
    assert _mapping(tmp_path, {}) is None


def test_a_model_is_offered_by_two_lines(tmp_path):
    """An input and an output of text are enough."""
    mapping = _mapping(tmp_path, USUAL)
    assert (mapping.input.name, mapping.output.name, mapping.fields) == ("ASK", "SAY", {})


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"output": "SAY"}, "without a prompt"),
        ({"input": "ASK"}, "but not 'openai.output'"),
        ({"input": "ASKS", "output": "SAY"}, "names the input 'ASKS', which model 'bot' does not have"),
        ({"input": "ASK", "output": "SCORE"}, "of type FP32; it has to be BYTES"),
        ({**USUAL, "temprature": "HEAT"}, "there is no parameter 'openai.temprature'"),
        ({**USUAL, "temperature": "STOPS"}, "it has to be a number"),
        ({**USUAL, "stream": "HEAT"}, "it has to be BOOL"),
        ({**USUAL, "others": "drop"}, "is one of refuse, ignore, not 'drop'"),
        ({**USUAL, "chat_template": "none.jinja"}, "which is not there"),
        ({**USUAL, "tokenizer": "none"}, "which is not there"),
        ({**USUAL, "set.LOUD": "1"}, "sets the input 'LOUD'"),
        ({**USUAL, "set.HEAT": "hot"}, "is no value of an input of type FP32: hot"),
        ({**USUAL, "messages": "TALK"}, "has to be optional"),
        ({"messages": "TALK", "output": "SAY"}, "input 'ASK' of model 'bot' is required"),
    ],
)
def test_wrong_parameters(tmp_path, parameters, words):
    """What is wrong is told by the parameter's name when the model is loaded."""
    with pytest.raises(InvalidArgument) as refused:
        TextModels().read(_source(tmp_path, parameters))
    assert words in refused.value.message


def test_wrong_parameters_are_found_without_loading(tmp_path):
    """`tritium check` tells them with the path of the file, where the configuration has the tensors."""
    source = _source(tmp_path, {"input": "ASK"})
    [problem] = check_offer(source.config, tmp_path, "1")
    assert (problem.path, "openai.output" in problem.message) == (str(tmp_path / "config.pbtxt"), True)
    assert not check_offer(_source(tmp_path, USUAL).config, tmp_path, "1")
    bare = _source(tmp_path, USUAL, 'name: "bot" backend: "python"')
    assert not check_offer(bare.config, tmp_path, "1")


def test_a_required_input_needs_a_value(tmp_path):
    """A field may be left out of a request, so its input is optional or has a value of its own."""
    text = TENSORS.replace("TYPE_FP32 dims: [ 1 ] optional: true", "TYPE_FP32 dims: [ 1 ]")
    with pytest.raises(InvalidArgument, match="'HEAT' of model 'bot' is required and is mapped to a field"):
        _mapping(tmp_path, {**USUAL, "temperature": "HEAT"}, text)
    assert _mapping(tmp_path, {**USUAL, "temperature": "HEAT", "set.HEAT": "0.5"}, text)


def test_a_template_that_does_not_parse(tmp_path):
    """A chat template is compiled when the model is loaded."""
    (tmp_path / "chat.jinja").write_text("{% for %}")
    with pytest.raises(InvalidArgument, match="does not parse"):
        TextModels().read(_source(tmp_path, {**USUAL, "chat_template": "chat.jinja"}))


class Bot(Model):
    """Answers with what it is told to, and remembers what it was asked."""

    def __init__(self, config, responses):
        self.name, self.version, self.config = config.name, "1", config
        self.responses, self.asked = responses, []

    @property
    def ready(self):
        return True

    def submit(self, request, reply):
        self.asked.append({t.name: t.array().ravel().tolist() for t in request.inputs})
        for text, why in self.responses:
            outputs = [
                Tensor("SAY", "BYTES", (1,), join_bytes([text])),
                Tensor("WHY", "BYTES", (1,), join_bytes([why])),
            ]
            reply.send(InferResponse(self.name, "1", outputs=outputs), final=False)
        reply.send(None, final=True)

    async def close(self):
        """Nothing is left behind."""


def _offered(tmp_path, parameters, responses):
    source = _source(tmp_path, parameters)
    book = TextModels()
    bot = Bot(source.config, responses)
    book.read(source)(bot)
    return bot, book.of(bot)


async def _run(offered, stops=(), **given):
    request = offered.request("hi", given, stream=True, request_id="r")
    return [(piece.text, piece.finish) async for piece in offered.run(request, stops)]


async def test_inputs_of_a_request(tmp_path):
    """Fields, constants and the wish for a stream become inputs; a list fills an open dimension."""
    parameters = {**USUAL, "temperature": "HEAT", "stop": "STOPS", "stream": "FLOW", "set.TALK": "quietly"}
    bot, offered = _offered(tmp_path, parameters, [("yes", "None")])
    assert await _run(offered, ["never"], temperature=0.5, stop=["a", "b"]) == [("yes", ""), ("", "stop")]
    assert bot.asked == [{"TALK": [b"quietly"], "ASK": [b"hi"], "FLOW": [True], "HEAT": [0.5], "STOPS": [b"a", b"b"]}]


async def test_responses_that_repeat_the_text_so_far(tmp_path):
    """Where each response holds all of the text, only what is new is sent; the finish reason is the last one said."""
    parameters = {**USUAL, "responses": "cumulative", "finish_reason": "WHY"}
    _, offered = _offered(tmp_path, parameters, [("a", "None"), ("a b", "None"), ("a b c", "length")])
    assert await _run(offered) == [("a", ""), (" b", ""), (" c", ""), ("", "length")]


async def test_stop_strings_across_responses(tmp_path):
    """A stop string is found however the responses cut it, and nothing of it is sent."""
    _, offered = _offered(tmp_path, USUAL, [("on", ""), ("e st", ""), ("op two", "")])
    assert await _run(offered, ["stop"]) == [("on", ""), ("e ", ""), ("", "stop")]


async def test_conversations_as_json(tmp_path):
    """A model that renders conversations itself gets them as JSON."""
    text = TENSORS.replace(
        '"ASK" data_type: TYPE_STRING dims: [ 1 ]', '"ASK" data_type: TYPE_STRING dims: [ 1 ] optional: true'
    )
    source = _source(tmp_path, {"messages": "TALK", "output": "SAY"}, text)
    book, bot = TextModels(), Bot(source.config, [])
    book.read(source)(bot)
    offered = book.of(bot)
    prompt = await offered.render([{"role": "user", "content": "hi"}])
    request = offered.request(prompt, {}, stream=False, request_id="r")
    assert request.inputs[0].array().tolist() == [b'[{"role":"user","content":"hi"}]']
    with pytest.raises(InvalidArgument, match="takes conversations only"):
        offered.request("hi", {}, stream=False, request_id="r")


def test_an_unloaded_model_is_forgotten(tmp_path):
    """The book keeps no model alive."""
    source = _source(tmp_path, USUAL)
    book = TextModels()
    book.read(source)(Bot(source.config, []))
    assert not book._offers
