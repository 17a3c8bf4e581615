"""TensorRT-LLM's tensors on a scripted language model."""

import asyncio
import base64
from itertools import pairwise

import numpy as np
import pytest

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InferenceError, InvalidArgument, Unsupported
from tritium.core.replies import StreamReply
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor, from_array
from tritium.llm.facade.alias import alias_of, own_surface
from tritium.llm.facade.surfaces import surface_named
from tritium.llm.model import LanguageModel, ModelDefaults

REPLY = "a model repository is a folder"


@pytest.fixture
def model(scripted):
    fleet = scripted.ScriptedFleet(scripted.chat_tokenizer(), scripted.Script())
    proto = model_config_pb2.ModelConfig(name="story", backend="vllm")
    config = surface_named("vllm").complete(from_proto(proto))
    owner = LanguageModel(config, "1", fleet, fleet.tokenizer, ModelDefaults(loras={"7": "/p"}))
    owner.aliases = [alias_of(owner, "ensemble", "trtllm"), alias_of(owner, "tensorrt_llm", "trtllm_tokens")]
    return owner


@pytest.fixture
def text(model):
    """The alias with texts, asked by `_ask(text, ...)`."""
    return model.aliases[0]


@pytest.fixture
def tokens(model):
    return model.aliases[1]


def _tensor(model, name, value, *, flat):
    spec = model.config.inputs[name]
    array = np.array(value, dtype=object if spec.datatype == "BYTES" else None)
    return from_array(name, array if flat else array.reshape(1, *array.shape), spec.datatype)


def _request(model, *, flat=False, request_id="r7", **inputs):
    tensors = [
        _tensor(model, name, value if isinstance(value, list) else [value], flat=flat) for name, value in inputs.items()
    ]
    return InferRequest(model.name, inputs=tensors, id=request_id)


async def _answers(model, request):
    reply = StreamReply()
    model.submit(request, reply)
    answers = []
    async with asyncio.timeout(60):
        async for item in reply:
            if isinstance(item, InferenceError):
                answers.append(item)
            else:
                assert (item.model_name, item.id) == (model.name, request.id)
                answers.append({t.name: t.array().tolist() for t in item.outputs})
    return answers


async def _ask(model, *, flat=False, **inputs):
    given = {"text_input": "hello", "max_tokens": 16} if model.name == "ensemble" else {}
    return await _answers(model, _request(model, flat=flat, **{**given, **inputs}))


def _sampling(model):
    return model.target.fleet.requests[-1].sampling


@pytest.mark.parametrize("flat", [False, True])
async def test_whole_answer_begins_with_the_prompt(text, flat):
    """Inputs are taken with and without a batch dimension; the text is one string after the prompt."""
    assert await _ask(text, flat=flat) == [{"text_output": [f"hello{REPLY}".encode()]}]
    assert await _ask(text, flat=flat, exclude_input_in_output=True) == [{"text_output": [REPLY.encode()]}]


async def test_stream_has_a_response_a_step_without_the_prompt(text):
    """A stream never repeats the prompt; its last response may have no text."""
    answers = await _ask(text, stream=True)
    assert b"".join(a["text_output"][0] for a in answers) == REPLY.encode()
    assert len(answers) > 3


@pytest.mark.parametrize(
    ("inputs", "sampling"),
    [
        ({}, {"temperature": 0.0}),
        ({"temperature": 0.7}, {"temperature": 0.0}),
        ({"top_k": 1, "top_p": 0.9}, {"temperature": 0.0}),
        ({"top_k": 0, "top_p": 0.0}, {"temperature": 0.0}),
        ({"top_k": 40, "temperature": 0.7}, {"temperature": 0.7, "top_k": 40}),
        ({"top_p": 0.95}, {"temperature": 1.0, "top_p": 0.95}),
        ({"top_k": 5, "top_p": 0.0, "seed": 3}, {"temperature": 1.0, "top_k": 5, "seed": 3}),
        ({"top_k": 5, "random_seed": 4, "min_length": 2}, {"temperature": 1.0, "top_k": 5, "seed": 4, "min_tokens": 2}),
        ({"end_id": 7, "pad_id": 7}, {"temperature": 0.0, "ignore_eos": True, "stop_token_ids": [7]}),
        ({"end_id": -1}, {"temperature": 0.0, "ignore_eos": True}),
        (
            {"repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "length_penalty": 2.0},
            {"temperature": 0.0, "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3},
        ),
        ({"bad_words": ["", "cat"], "stop_words": [""]}, {"temperature": 0.0, "bad_words": ["cat"]}),
        (
            {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "a+"},
            {"temperature": 0.0, "structured_outputs": {"regex": "a+"}},
        ),
        ({"guided_decoding_guide_type": "json"}, {"temperature": 0.0, "structured_outputs": {"json_object": True}}),
        ({"prompt_table_extra_id": 5, "beam_width": 1}, {"temperature": 0.0}),
    ],
)
async def test_sampling(text, inputs, sampling):
    """Each input is the sampling field that does what TensorRT-LLM does by it; without top_k and top_p it is greedy."""
    await _ask(text, **inputs)
    assert _sampling(text) == {"max_tokens": 16, **sampling}


async def test_stop_word_ends_the_answer_and_stays_in_it(text):
    """As in TensorRT-LLM, the answer ends with its stop word."""
    text.target.fleet.script.endless = True
    assert await _ask(text, stop_words=["tory", "zzz"], exclude_input_in_output=True) == [
        {"text_output": [b"a model repository"]}
    ]
    assert text.target.fleet.generations[0].cancelled


async def test_biased_words(text):
    """A bias of a word is one of each of its tokens."""
    ids = text.target.tokenizer.encode_now("model", add_special=False)
    await _ask(text, embedding_bias_words=["model", "model"], embedding_bias_weights=[2.0, 1.5])
    assert _sampling(text)["logit_bias"] == dict.fromkeys(ids, 3.5)


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probs(text, stream):
    """Scores are those of all tokens so far, without that of the token that ended the answer."""
    answers = await _ask(text, stream=stream, return_log_probs=True)
    tokens = len(text.target.tokenizer.encode_now(REPLY, add_special=False))
    assert answers[-1]["output_log_probs"] == [[[-0.25] * tokens]]
    assert answers[-1]["cum_log_probs"] == [[-0.25 * tokens]]
    if stream:
        assert answers[0]["output_log_probs"] == [[[-0.25]]]


async def test_several_answers_are_responses_of_their_own(text):
    """Each of num_return_sequences has its index, also where all of them are equal."""
    answers = await _ask(text, num_return_sequences=3, exclude_input_in_output=True)
    assert sorted(a["sequence_index"] for a in answers) == [[[0]], [[1]], [[2]]]
    assert {a["text_output"][0] for a in answers} == {REPLY.encode()}


async def test_batch(text):
    """Prompts of one request are answered apart, each by its own row of every input."""
    request = _request(
        text,
        flat=True,
        text_input=[["hello"], ["a model"]],
        max_tokens=[[4], [2]],
        exclude_input_in_output=[[True], [True]],
        return_num_output_tokens=[[True], [True]],
    )
    answers = {a["batch_index"][0][0]: a for a in await _answers(text, request)}
    assert [answers[row]["num_output_tokens"] for row in (0, 1)] == [[[4]], [[2]]]
    assert text.statistics.inference_count == 2


async def test_batch_of_none(text):
    """A batch dimension of 0 is an error of the request, not a wait without end."""
    inputs = [Tensor("text_input", "BYTES", (0, 1), b""), Tensor("max_tokens", "INT32", (0, 1), b"")]
    [error] = await _answers(text, InferRequest("ensemble", inputs=inputs, id="r7"))
    assert isinstance(error, InvalidArgument)


async def test_performance_metrics(text):
    """Blocks and times are what the front knows; nothing is drafted."""
    [answer] = await _ask(text, return_perf_metrics=True, return_num_input_tokens=True)
    assert answer["kv_cache_alloc_total_blocks"] == [[1]]
    assert answer["acceptance_rate"] == [[0.0]]
    assert answer["arrival_time_ns"] <= answer["first_token_time_ns"] <= answer["last_token_time_ns"]
    assert answer["num_input_tokens"][0][0] == len(text.target.fleet.requests[0].token_ids)


async def test_adapter_by_task_id(text):
    """An adapter whose name is the number is the one of that task."""
    await _ask(text, lora_task_id=7)
    assert text.target.fleet.requests[0].lora == "7"
    [error] = await _ask(text, lora_task_id=8)
    assert "lora_task_id 8 is no adapter of model 'story', which has 7" in error.message


@pytest.mark.parametrize(
    ("inputs", "kind", "words"),
    [
        ({"max_tokens": 0}, InvalidArgument, "max_tokens must be a single value > 0"),
        ({"beam_width": 2}, Unsupported, "beam_width must be 1"),
        ({"return_context_logits": True}, Unsupported, "logits are not served"),
        ({"num_draft_tokens": 3}, Unsupported, "a draft model"),
        ({"guided_decoding_guide_type": "poem"}, InvalidArgument, "is one of json, json_schema"),
        ({"guided_decoding_guide_type": "regex"}, InvalidArgument, "guided_decoding_guide is missing"),
        ({"num_return_sequences": 0}, InvalidArgument, "num_return_sequences must be from 1"),
        ({"top_p": 2.0}, InvalidArgument, "top_p must be"),
        ({"text_input": b"\xff"}, InvalidArgument, "not UTF-8"),
        ({"embedding_bias_words": ["a"], "embedding_bias_weights": [1.0, 2.0]}, InvalidArgument, "same dimension"),
    ],
)
async def test_refused(text, inputs, kind, words):
    """What makes no sense, or what no engine does, is one error that names the input."""
    [error] = await _ask(text, **inputs)
    assert isinstance(error, kind)
    assert words in error.message
    assert not text.target.fleet.requests


@pytest.mark.parametrize("name", ["return_context_logits", "use_draft_logits"])
async def test_switches_that_are_off_are_fine(text, name):
    """Clients send every switch; one that is off asks for nothing."""
    [answer] = await _ask(text, **{name: False})
    assert "text_output" in answer


async def _token_ask(tokens, **inputs):
    return await _ask(tokens, **{"input_ids": [5, 6, 7], "input_lengths": 3, "request_output_len": 16, **inputs})


async def test_tokens(tokens):
    """Token ids come in and go out, the prompt's before the answer's, without the end token."""
    reply = tokens.target.tokenizer.encode_now(REPLY, add_special=False)
    [answer] = await _token_ask(tokens, input_lengths=2)
    assert answer == {"output_ids": [[[5, 6, *reply]]], "sequence_length": [[2 + len(reply)]]}
    [answer] = await _token_ask(tokens, exclude_input_in_output=True)
    assert answer["output_ids"] == [[reply]]


async def test_stream_of_tokens(tokens):
    """A stream's responses have the tokens of one step each; the last one's may be none."""
    answers = await _token_ask(tokens, streaming=True)
    reply = tokens.target.tokenizer.encode_now(REPLY, add_special=False)
    assert [token for a in answers for token in a["output_ids"][0][0]] == reply
    assert answers[-1]["sequence_length"] == [[0]]


async def test_stop_words_as_token_ids(tokens):
    """A list of token ids ends the answer, and stays in it."""
    reply = tokens.target.tokenizer.encode_now(REPLY, add_special=False)
    words = [[reply[1], reply[2], 99, 98], [2, 4, -1, -1]]
    [answer] = await _token_ask(tokens, stop_words_list=words, exclude_input_in_output=True)
    assert answer["output_ids"] == [[reply[:3]]]


async def test_bias_of_every_token(tokens):
    """A vector of biases is one of those that are not 0."""
    await _token_ask(tokens, embedding_bias=[0.0, 1.5, 0.0, -2.0])
    assert _sampling(tokens)["logit_bias"] == {1: 1.5, 3: -2.0}


async def test_what_preprocessing_always_sends(tokens):
    """TensorRT-LLM's own preprocessing fills every input; empty lists and a padding token ask for nothing."""
    empty = {"bad_words_list": [[0], [-1]], "stop_words_list": [[], []], "embedding_bias": [], "decoder_input_ids": [2]}
    [answer] = await _token_ask(tokens, **empty, decoder_input_lengths=1, pad_id=2)
    assert answer["sequence_length"][0][0] > 3
    assert _sampling(tokens) == {"max_tokens": 16, "temperature": 0.0}
    [error] = await _token_ask(tokens, decoder_input_ids=[2, 3])
    assert isinstance(error, Unsupported)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"input_ids": [999999]}, "token id 999999 in 'input_ids' is not in the vocabulary"),
        ({"input_lengths": 0}, "'input_ids' is empty"),
        ({"request_output_len": 0}, "request_output_len must be"),
        ({"stop_words_list": [[1, 2], [3, -1]]}, "Invalid format for word list"),
    ],
)
async def test_refused_tokens(tokens, inputs, words):
    """Wrong token ids and lists are refused by the name of their input."""
    [error] = await _token_ask(tokens, **inputs)
    assert isinstance(error, InvalidArgument)
    assert words in error.message


async def test_one_request_stops_another(tokens):
    """A request with `stop` ends those of its id, which answer with what they have; it answers with nothing."""
    fleet = tokens.target.fleet
    fleet.script.hold_at = 3
    asking = asyncio.create_task(_token_ask(tokens, exclude_input_in_output=True))
    await asyncio.wait_for(fleet.held.wait(), 60)
    assert await _token_ask(tokens, stop=True) == [{}]
    [answer] = await asking
    assert answer["sequence_length"] == [[3]]
    await asyncio.wait_for(fleet.cancelled.wait(), 60)
    assert await _token_ask(tokens, stop=True) == [{}]
    [error] = await _token_ask(tokens, stop=True, request_id="")
    assert error.message == "Trying to stop a request but request ID is not provided"
    assert not tokens._by_id


async def test_stream_of_a_model_that_is_not_decoupled(model):
    """A configuration of its own may say that there is one response a request: streams are refused then."""
    proto = model_config_pb2.ModelConfig(name="whole", backend="vllm", max_batch_size=4)
    proto.input.add(name="text_input", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    config = surface_named("trtllm").complete(from_proto(proto))
    whole = LanguageModel(config, "1", model.fleet, model.tokenizer, surface=surface_named("trtllm"))
    request = _request(whole, text_input="hello", max_tokens=3, stream=True)
    [error] = await _answers(whole, request)
    assert error.message == "Streaming is only supported in decoupled mode."


@pytest.fixture
def llmapi(model):
    return alias_of(model, "llmapi", "trtllm_llmapi")


async def test_llmapi_text(llmapi):
    """The model over the LLM API answers without the prompt, each time with the whole text so far."""
    inputs = {"text_input": "hello", "return_finish_reason": True, "return_cumulative_logprob": True}
    [answer] = await _answers(llmapi, _request(llmapi, flat=True, **inputs))
    assert (answer["text_output"], answer["finish_reason"]) == ([REPLY.encode()], [b"stop"])
    assert answer["cumulative_logprob"][0] < 0
    assert _sampling(llmapi) == {"max_tokens": 32, "temperature": 0.0, "logprobs": 0}
    texts = [a["text_output"][0] for a in await _answers(llmapi, _request(llmapi, streaming=True, **inputs))]
    assert texts[-1] == REPLY.encode()
    assert all(later.startswith(before) for before, later in pairwise(texts))


async def test_llmapi_sampling(llmapi):
    """Fields are inputs of a name of their own; a stop string ends the text and is no part of it."""
    inputs = {"sampling_param_max_tokens": 9, "sampling_param_top_p": 0.5, "sampling_param_seed": 2}
    inputs |= {"sampling_param_stop": ["repo"], "return_stop_reason": True}
    [answer] = await _answers(llmapi, _request(llmapi, flat=True, text_input="hello", **inputs))
    assert (answer["text_output"], answer["stop_reason"]) == ([b"a model "], [b"repo"])
    assert _sampling(llmapi) == {"max_tokens": 9, "temperature": 1.0, "top_p": 0.5, "seed": 2}
    [error] = await _answers(llmapi, _request(llmapi, text_input="hello", sampling_param_beam_width=4))
    assert isinstance(error, Unsupported)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


async def test_images_come_as_data_urls(text):
    """An image reaches the engine as its bytes; an address is refused, for nothing is fetched."""
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    [error] = await _ask(text, image_url_input=url)
    assert "images are not served by this model" in error.message
    text.target.fleet.modalities = ("image",)
    await _ask(text, image_url_input=url)
    [media] = text.target.fleet.requests[-1].media
    assert (media.kind, media.mime, media.data) == ("image", "image/png", PNG)
    [error] = await _ask(text, image_url_input="http://localhost/cat.png")
    assert "only data URLs are served" in error.message


@pytest.mark.parametrize(
    ("inputs", "surface"),
    [
        (["text_input"], "vllm"),
        (["text_input", "max_tokens", "bad_words"], "trtllm"),
        (["input_ids", "input_lengths"], "trtllm_tokens"),
        (["text_input", "sampling_param_max_tokens"], "trtllm_llmapi"),
        ([], "vllm"),
    ],
)
def test_surface_by_declared_inputs(inputs, surface):
    """A configuration that came with a deployment tells by its inputs which clients it has."""
    proto = model_config_pb2.ModelConfig(name="m", backend="tensorrtllm")
    for name in inputs:
        proto.input.add(name=name, data_type=model_config_pb2.TYPE_STRING, dims=[1])
    assert own_surface(from_proto(proto)) is surface_named(surface)
