import asyncio
import base64
import json
import time

import numpy as np
import pytest

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import (
    Cancelled,
    DeadlineExceeded,
    InferenceError,
    Internal,
    InvalidArgument,
    ModelFailed,
    Unavailable,
    Unsupported,
)
from tritium.core.replies import StreamReply
from tritium.core.request import InferRequest, RequestedOutput
from tritium.core.tensor import from_array
from tritium.llm.facade.vllm import VllmSurface
from tritium.llm.model import LanguageModel, ModelDefaults

TYPES = {bool: ("BOOL", np.bool_), bytes: ("BYTES", np.object_)}


@pytest.fixture
def model(scripted):
    fleet = scripted.ScriptedFleet(scripted.chat_tokenizer(), scripted.Script())
    config = VllmSurface().complete(from_proto(model_config_pb2.ModelConfig(name="story", backend="vllm")))
    return LanguageModel(config, "1", fleet, fleet.tokenizer, ModelDefaults(loras={"poet": "/p"}))


def _request(text="hello", parameters=None, outputs=(), **inputs):
    inputs = {"text_input": text, **inputs}
    tensors = []
    for name, value in inputs.items():
        raw = value.encode() if isinstance(value, str) else value
        datatype, numpy = TYPES[type(raw)]
        tensors.append(from_array(name, np.array([raw], dtype=numpy), datatype))
    return InferRequest(
        "story", inputs=tensors, parameters=parameters or {}, outputs=[RequestedOutput(o) for o in outputs], id="r7"
    )


async def _answers(model, request):
    """Return the responses of a request, each as a dict of lists."""
    reply = StreamReply()
    model.submit(request, reply)
    answers = []
    async with asyncio.timeout(60):
        async for item in reply:
            if isinstance(item, InferenceError):
                answers.append(item)
                continue
            assert (item.model_name, item.model_version, item.id) == ("story", "1", "r7")
            answers.append({t.name: t.array().tolist() for t in item.outputs})
    return answers


async def test_whole_answer_repeats_the_prompt(model):
    """Without streaming the answer is one response that begins with the prompt, as vllm_backend's does."""
    assert await _answers(model, _request()) == [{"text_output": [b"helloa model repository is a folder"]}]
    assert model.fleet.requests[0].sampling == {"max_tokens": 16}
    assert model.fleet.requests[0].token_ids == model.tokenizer.encode_now("hello", add_special=True)


async def test_a_fault_of_ours_is_answered_too(model, monkeypatch):
    """An error that nobody foresaw while the prompt is encoded reaches the client, who would wait for ever else."""

    async def broken(_text, *, add_special):
        raise ZeroDivisionError(add_special)

    monkeypatch.setattr(model.tokenizer, "encode", broken)
    (error,) = await _answers(model, _request())
    assert (type(error), error.message) == (Internal, "the server failed; its log has the reason")
    assert model.statistics.pending == 0


async def test_prompt_can_be_left_out(model):
    """exclude_input_in_output leaves the prompt out."""
    assert await _answers(model, _request(exclude_input_in_output=True)) == [
        {"text_output": [b"a model repository is a folder"]}
    ]


async def test_stream_has_a_response_a_step(model):
    """A stream's responses hold what each step added; joined they are the text, without the prompt."""
    answers = await _answers(model, _request(stream=True, return_finish_reason=True))
    assert b"".join(a["text_output"][0] for a in answers) == b"a model repository is a folder"
    assert [a["finish_reason"] for a in answers] == [[b"None"]] * (len(answers) - 1) + [[b"stop"]]
    assert len(answers) == len(model.tokenizer.encode_now("a model repository is a folder", add_special=False)) + 1


async def test_stream_with_the_prompt_is_refused(model):
    """Streaming with the prompt repeated makes no sense, and is refused in vllm_backend's words."""
    [error] = await _answers(model, _request(stream=True, exclude_input_in_output=False))
    assert isinstance(error, InvalidArgument)
    assert error.message == "Error generating stream: When streaming, `exclude_input_in_output` = False is not allowed."


@pytest.mark.parametrize("stream", [False, True])
async def test_extra_outputs(model, stream):
    """Each return_ flag adds its output; counts of a stream add up to those of the whole."""
    model.fleet.script.reply = "a model"
    answers = await _answers(
        model,
        _request(
            stream=stream,
            exclude_input_in_output=True,
            sampling_parameters='{"logprobs": 2}',
            return_finish_reason=True,
            return_cumulative_logprob=True,
            return_logprobs=True,
            return_num_input_tokens=True,
            return_num_output_tokens=True,
        ),
    )
    ids = [*model.tokenizer.encode_now("a model", add_special=False), model.fleet.end_token]
    assert len(answers) == (len(ids) if stream else 1)
    assert sum(a["num_output_tokens"][0] for a in answers) == len(ids)
    assert answers[-1]["num_input_tokens"] == [len(model.fleet.requests[0].token_ids)]
    assert answers[-1]["cumulative_logprob"] == [-0.25 * len(ids)]
    scores = [entry for a in answers for entry in json.loads(a["logprobs"][0])]
    assert [next(iter(entry)) for entry in scores] == [str(i) for i in ids]
    assert scores[0][str(ids[0])] == {"logprob": -0.25, "rank": 1, "decoded_token": "a"}
    assert all(len(entry) == 3 for entry in scores)


async def test_cumulative_logprob_needs_no_logprobs(model):
    """The sum of the scores comes also where the client did not ask for scores; those are null then."""
    [answer] = await _answers(model, _request(return_cumulative_logprob=True, return_logprobs=True))
    assert answer["cumulative_logprob"][0] < 0
    assert answer["logprobs"] == [b"null"]


async def test_only_requested_outputs_come(model):
    """A client that names outputs gets those alone."""
    [answer] = await _answers(model, _request(return_finish_reason=True, outputs=["finish_reason"]))
    assert answer == {"finish_reason": [b"stop"]}


@pytest.mark.parametrize("stream", [False, True])
async def test_several_completions(model, stream):
    """n completions are the elements of each output."""
    model.fleet.script.reply = "yes"
    answers = await _answers(
        model, _request(stream=stream, exclude_input_in_output=True, sampling_parameters='{"n": 2, "seed": 5}')
    )
    texts = [b"".join(a["text_output"][i] for a in answers) for i in (0, 1)]
    assert texts == [b"yes", b"yes"]
    assert [r.sampling["seed"] for r in model.fleet.requests] == [5, 6]


async def test_sampling_as_text(model):
    """Numbers and truth values written as strings are taken as what they are, as vllm_backend's samples send them."""
    parameters = {"temperature": "0.1", "top_p": "0.95", "max_tokens": "5", "ignore_eos": "true", "stop": "zz"}
    await _answers(model, _request(sampling_parameters=json.dumps(parameters)))
    await _answers(model, _request(parameters=parameters))
    expected = {"temperature": 0.1, "top_p": 0.95, "max_tokens": 5, "ignore_eos": True}
    assert [r.sampling for r in model.fleet.requests] == [expected, expected]


async def test_stop_string(model):
    """A stop string ends the text and the generation."""
    model.fleet.script.endless = True
    request = _request(exclude_input_in_output=True, sampling_parameters='{"stop": ["tory"], "max_tokens": 90}')
    assert await _answers(model, request) == [{"text_output": [b"a model reposi"]}]
    assert model.fleet.generations[0].cancelled


async def test_servers_own_parameters_are_no_sampling_fields(model):
    """What the generate extension leaves among the parameters for the server does not reach the engine."""
    await _answers(model, _request(parameters={"id": "7", "priority": 1, "triton_x": True, "top_k": 3}))
    assert model.fleet.requests[0].sampling == {"top_k": 3, "max_tokens": 16}


async def test_guided_decoding(model):
    """guided_decoding and structured_outputs are JSON in a string, and reach the engine as structured_outputs."""
    for name in ("guided_decoding", "structured_outputs"):
        await _answers(model, _request(sampling_parameters=json.dumps({name: '{"choice": ["a", "b"]}'})))
    assert [r.sampling["structured_outputs"] for r in model.fleet.requests] == [{"choice": ["a", "b"]}] * 2


PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


async def test_images(model):
    """Images in base64 reach the engine as bytes, an empty string is none, and what is no image is refused."""
    model.fleet.modalities = ("image",)
    await _answers(model, _request(image=base64.b64encode(PNG)))
    [media] = model.fleet.requests[0].media
    assert (media.kind, media.mime, media.data) == ("image", "image/png", PNG)
    await _answers(model, _request(image=b""))
    assert not model.fleet.requests[1].media
    for wrong in (base64.b64encode(b"text"), b"a"):
        [error] = await _answers(model, _request(image=wrong))
        assert isinstance(error, InvalidArgument)
        assert "image[0] is no" in error.message


async def test_embeddings(model):
    """An embedding request is answered with its vector as JSON, and counts no tokens of an answer."""
    model.fleet.tasks = ("generate", "embed")
    asked = json.dumps({"input": "hello", "pooling_params": {"dimensions": [2]}})
    flags = {"return_num_input_tokens": True, "return_num_output_tokens": True}
    [answer] = await _answers(model, _request(embedding_request=asked, **flags))
    [pooled] = model.fleet.pooled
    assert (pooled.task, dict(pooled.parameters)) == ("embed", {"dimensions": 2})
    assert len(json.loads(answer["text_output"][0])) > 0
    assert (answer["num_input_tokens"], answer["num_output_tokens"]) == ([len(pooled.token_ids)], [0])
    await _answers(model, _request(embedding_request='{"input": [3, 4]}'))
    assert model.fleet.pooled[1].token_ids == [3, 4]
    for wrong in ("{}", '{"input": "hello", "pooling_params": {"dimensions": [-1]}}'):
        [error] = await _answers(model, _request(embedding_request=wrong))
        assert "embedding_request is not what it should be" in error.message


async def test_model_that_only_embeds(model):
    """A model that does not generate says so in vllm_backend's words."""
    model.fleet.tasks = ("embed",)
    [error] = await _answers(model, _request())
    assert error.message == "Error generating stream: Model story does not support 'generate' request"


async def test_numbers_of_the_wrong_kind(model):
    """A number is made what its field is, as vllm_backend makes it; a list may come as JSON in a string."""
    await _answers(model, _request(sampling_parameters='{"max_tokens": 5.0, "temperature": 1, "ignore_eos": 1}'))
    await _answers(model, _request(parameters={"stop_token_ids": "[3]", "logit_bias": '{"4": 2}', "max_tokens": 5}))
    first, second = (r.sampling for r in model.fleet.requests)
    assert first == {"max_tokens": 5, "temperature": 1.0, "ignore_eos": True}
    assert isinstance(first["max_tokens"], int)
    assert second == {"max_tokens": 5, "stop_token_ids": [3], "logit_bias": {4: 2.0}}


async def test_unknown_sampling_field_is_the_engines_to_judge(model):
    """A field that only a newer engine knows passes through."""
    await _answers(model, _request(sampling_parameters='{"future_field": 3}'))
    assert model.fleet.requests[0].sampling["future_field"] == 3


async def test_max_tokens_ends_with_the_context(model):
    """As in vLLM, a completion may ask for more than the context holds; it ends there."""
    await _answers(model, _request(sampling_parameters='{"max_tokens": 9999}'))
    request = model.fleet.requests[0]
    assert request.sampling["max_tokens"] == model.fleet.context_tokens - len(request.token_ids)


async def test_lora(model):
    """lora_name chooses an adapter; an unknown one is refused in vllm_backend's words."""
    await _answers(model, _request(parameters={"lora_name": "poet"}))
    assert model.fleet.requests[0].lora == "poet"
    assert "lora_name" not in model.fleet.requests[0].sampling
    [error] = await _answers(model, _request(parameters={"lora_name": "bard"}))
    assert error.message == "LoRA bard is not supported, we currently support ['poet']"


@pytest.mark.parametrize(
    ("inputs", "kind", "words"),
    [
        ({"sampling_parameters": "{"}, InvalidArgument, "not a JSON object"),
        ({"sampling_parameters": "[]"}, InvalidArgument, "not a JSON object"),
        ({"sampling_parameters": '{"temperature": "hot"}'}, InvalidArgument, "temperature has the value 'hot'"),
        ({"sampling_parameters": '{"logit_bias": [1]}'}, InvalidArgument, "logit_bias has the value '[1]'"),
        ({"sampling_parameters": '{"stop": 5}'}, InvalidArgument, "stop must be a non-empty string"),
        ({"sampling_parameters": '{"top_p": 2}'}, InvalidArgument, "top_p must be"),
        ({"sampling_parameters": b"\xff"}, InvalidArgument, "not UTF-8"),
        ({"text": b"\xff"}, InvalidArgument, "not UTF-8"),
        ({"text": "word " * 300}, InvalidArgument, "maximum context length is 256"),
        ({"image": b"x"}, Unsupported, "images are not served"),
        ({"embedding_request": "{}"}, InvalidArgument, "Model story does not support 'embed' request"),
        ({"nonsense": "x"}, InvalidArgument, "unexpected inference input 'nonsense' for model 'story'"),
    ],
)
async def test_bad_requests(model, inputs, kind, words):
    """A request that makes no sense is one error that says why, and generates nothing."""
    [error] = await _answers(model, _request(**inputs))
    assert isinstance(error, kind)
    assert words in error.message
    assert not model.fleet.requests


async def test_failing_engine(model):
    """A generation that fails ends the stream with its error, after what came before."""
    model.fleet.script.fail_at, model.fleet.script.failure = 2, ModelFailed("out of memory")
    answers = await _answers(model, _request(stream=True))
    assert [isinstance(a, dict) for a in answers] == [True, True, False]
    assert answers[2].message == "out of memory"
    assert model.statistics.failures == {"BACKEND": 1}


@pytest.mark.parametrize("hold_at", [0, 2])
async def test_cancelled_request(model, hold_at):
    """Cancelling a request cancels its generations and ends its stream with Cancelled."""
    model.fleet.script.hold_at = hold_at
    request = _request(stream=True)
    asking = asyncio.create_task(_answers(model, request))
    await asyncio.wait_for(model.fleet.held.wait(), 60)
    request.cancel()
    answers = await asking
    assert isinstance(answers[-1], Cancelled)
    await asyncio.wait_for(model.fleet.cancelled.wait(), 60)
    assert model.statistics.pending == 0
    assert model.statistics.failures == {"CANCELED": 1}


async def test_request_that_takes_too_long(scripted):
    """Past the server's limit a request in tensors fails, and its generation is cancelled; so does one that embeds."""
    fleet = scripted.ScriptedFleet(scripted.chat_tokenizer(), scripted.Script(hold_at=2), tasks=("generate", "embed"))
    config = VllmSurface().complete(from_proto(model_config_pb2.ModelConfig(name="story", backend="vllm")))
    model = LanguageModel(config, "1", fleet, fleet.tokenizer, ModelDefaults(timeout_s=0.05))
    [late] = await _answers(model, _request())
    assert (type(late), late.http_status) == (DeadlineExceeded, 503)
    assert "0.05 s that this server gives one" in late.message
    await asyncio.wait_for(fleet.cancelled.wait(), 60)
    fleet.cancelled.clear()
    [late] = await _answers(model, _request(embedding_request='{"input": "hello"}'))
    assert type(late) is DeadlineExceeded
    await asyncio.wait_for(fleet.cancelled.wait(), 60)
    assert model.statistics.pending == 0


async def test_request_cancelled_before_it_began(model):
    """A request that is cancelled already never reaches the fleet."""
    request = _request()
    request.cancel()
    [error] = await _answers(model, request)
    assert isinstance(error, Cancelled)
    assert not model.fleet.requests


async def test_fleet_without_workers(model):
    """Without a ready worker the model is not ready; its requests are the fleet's to hold, and to fail."""
    model.fleet.ready = False
    model.fleet.script.fail_at, model.fleet.script.failure = 0, Unavailable("no worker became ready")
    assert not model.ready
    [error] = await _answers(model, _request())
    assert isinstance(error, Unavailable)
    assert len(model.fleet.requests) == 1


async def test_the_fleet_knows_when_a_request_came(model):
    """Metrics of first tokens and overhead count from the request's arrival, before its prompt was encoded."""
    before_s = time.monotonic()
    await _answers(model, _request(parameters={"n": 2, "temperature": 1.0}))
    one, other = model.fleet.requests
    assert one.arrived_s == other.arrived_s
    assert before_s <= one.arrived_s <= time.monotonic()


async def test_closing(model):
    """A closed model refuses requests and has ended its fleet."""
    await model.close()
    assert model.fleet.closed
    [error] = await _answers(model, _request())
    assert "being unloaded" in error.message


async def test_statistics(model):
    """A request is one success and one execution, and leaves nothing pending."""
    await _answers(model, _request())
    statistics = model.statistics
    assert (statistics.success.count, statistics.execution_count, statistics.pending) == (1, 1, 0)
    assert statistics.compute_infer.ns > 0


def test_completed_config_has_vllm_backends_tensors(model):
    """The configuration gets the tensors of vllm_backend; what it has already is kept."""
    assert list(model.config.inputs) == [
        "text_input",
        "image",
        "stream",
        "sampling_parameters",
        "exclude_input_in_output",
        "return_finish_reason",
        "return_cumulative_logprob",
        "return_logprobs",
        "return_num_input_tokens",
        "return_num_output_tokens",
        "embedding_request",
    ]
    assert [name for name, spec in model.config.inputs.items() if not spec.optional] == ["text_input"]
    assert model.config.outputs["num_output_tokens"].datatype == "UINT32"
    assert model.config.decoupled
    assert model.config.max_batch_size == 0
    again = VllmSurface().complete(model.config)
    assert list(again.inputs) == list(model.config.inputs)
