"""The other names of a language model: how they are read, and what they are to clients."""

import numpy as np
import pytest

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument, Unavailable
from tritium.core.replies import StreamReply
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor, from_array, join_bytes
from tritium.llm.facade.alias import alias_of, check_aliases, read_aliases
from tritium.llm.model import LanguageModel


def _config(aliases="", **parameters):
    proto = model_config_pb2.ModelConfig(name="chat", backend="vllm")
    for name, text in {"aliases": aliases, **parameters}.items():
        if text:
            proto.parameters[name].string_value = text
    return from_proto(proto)


@pytest.mark.parametrize(
    ("in_config", "in_model_json", "expected"),
    [
        ("", None, {}),
        (
            "ensemble, tensorrt_llm ,x=trtllm",
            None,
            {"ensemble": "trtllm", "tensorrt_llm": "trtllm_tokens", "x": "trtllm"},
        ),
        ("", ["tensorrt_llm_bls", "vllm_model"], {"tensorrt_llm_bls": "trtllm", "vllm_model": "vllm"}),
        ("a", {"a": "trtllm", "ensemble": "vllm"}, {"a": "trtllm", "ensemble": "vllm"}),
    ],
)
def test_aliases_are_read(in_config, in_model_json, expected):
    """They are listed in config.pbtxt, in model.json, or in both; old names stand for their old tensors."""
    assert read_aliases(_config(in_config), in_model_json) == expected


@pytest.mark.parametrize(
    ("in_config", "in_model_json", "words"),
    [
        ("chat", None, "the model's own name"),
        ("x=poem", None, "there is no surface 'poem'"),
        ("a/b", None, "is no name of a model"),
        ("", "ensemble", "neither a list of names nor an object"),
        ("", [3], "neither a list of names nor an object"),
        ("", {"a": 3}, "neither a list of names nor an object"),
    ],
)
def test_wrong_aliases(in_config, in_model_json, words, tmp_path):
    """What cannot be an alias is told when the files are read."""
    with pytest.raises(InvalidArgument, match=words):
        read_aliases(_config(in_config), in_model_json)
    [problem] = check_aliases(_config(in_config), in_model_json, tmp_path)
    assert words in problem.message


def test_alias_of_the_name_of_a_folder(tmp_path):
    """A folder of the same name is found before anything is loaded."""
    (tmp_path / "ensemble").mkdir()
    (tmp_path / "ensemble" / "config.pbtxt").touch()
    [problem] = check_aliases(_config("ensemble"), None, tmp_path / "chat")
    assert "'ensemble' is the name of a model beside it" in problem.message
    assert not list(check_aliases(_config("other"), None, tmp_path / "chat"))


async def test_an_alias_has_books_of_its_own(scripted):
    """A request is counted under the name that it came by; the model behind is the same, and ends with it."""
    fleet = scripted.ScriptedFleet(scripted.chat_tokenizer(), scripted.Script())
    owner = LanguageModel(_config(), "3", fleet, fleet.tokenizer)
    alias = alias_of(owner, "ensemble", "trtllm")
    inputs = [
        Tensor("text_input", "BYTES", (1, 1), join_bytes(["hello"])),
        from_array("max_tokens", np.array([[3]]), "INT32"),
    ]
    reply = StreamReply()
    alias.submit(InferRequest("ensemble", inputs=inputs), reply)
    [response] = [item async for item in reply]
    assert (response.model_name, response.model_version) == ("ensemble", "3")
    assert (alias.statistics.success.count, owner.statistics.success.count) == (1, 0)
    assert alias.ready
    await owner.close()
    assert not alias.ready
    with pytest.raises(Unavailable):
        alias.admit()


@pytest.mark.parametrize("said", ["", "true"])
async def test_an_alias_leaves_the_prompt_out_where_its_owner_does(said, scripted):
    """TensorRT-LLM's engine says so for the ensemble around it: `exclude_input_in_output`."""
    fleet = scripted.ScriptedFleet(scripted.chat_tokenizer(), scripted.Script())
    owner = LanguageModel(_config(exclude_input_in_output=said), "3", fleet, fleet.tokenizer)
    assert alias_of(owner, "ensemble", "trtllm").config.parameter("exclude_input_in_output") == said
    await owner.close()
