"""vLLM's own tool parsers, on the texts of the scripts: where a text is well-formed they must say the same.

A case marked "vllm differs" is one that vLLM's parser gives up on, loses text of, or reads otherwise for a reason that
the case's title tells.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tritium.llm.reading.table import HARMONY, NONE

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.filterwarnings("ignore"),
]

HERE = Path(__file__).parent


def _cases():
    spec = importlib.util.spec_from_file_location("reader_scripts_for_vllm", HERE / "script.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    for path in sorted((HERE / "scripts").glob("*.txt")):
        for case in script.read_script(path):
            reads_calls = case.formats.tool not in (NONE, HARMONY) and case.asked.tools and not case.asked.forced
            thinks = any(line.startswith("reasoning ") for line in case.expected) or not case.asked.reasoning
            if reads_calls and case.asked.parallel and not thinks:
                yield pytest.param(_vllm_name(path.stem, case), case, id=f"{path.stem}: {case.title}")


def _vllm_name(family, case):
    return "deepseek_v31" if family == "deepseek" and "```json" not in case.text else case.formats.tool


def _tokenizer(markers):
    """A tokenizer of bytes, with the family's markers as tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["a b"], trainer)
    tokenizer.add_tokens([*markers, "<think>", "</think>"])
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415  comes with vLLM, and takes seconds

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _expected(lines):
    """The script's expectations by what they mean: content without its edges, arguments as objects, content first."""
    texts, calls = "", []
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "content":
            texts += json.loads(rest) if rest.startswith('"') else rest
        else:
            name, _, arguments = rest.partition(" ")
            calls.append((name, json.loads(arguments)))
    return texts.strip(), calls


@pytest.mark.timeout(180)  # importing vLLM takes half a minute on a busy machine
@pytest.mark.parametrize(("name", "case"), list(_cases()))
def test_vllm_reads_the_same(name, case):
    """vLLM's parser of the family finds the same content and the same calls, or the case says that it does not."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest  # noqa: PLC0415  likewise
    from vllm.tool_parsers import ToolParserManager  # noqa: PLC0415

    tools = [
        {"type": "function", "function": {"name": tool.name, "parameters": dict(tool.parameters)}}
        for tool in case.asked.tools
    ]
    request = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "x"}], tools=tools)
    parser = ToolParserManager.get_tool_parser(name)(_tokenizer(case.formats.calls.markers), tools=request.tools)
    read = parser.extract_tool_calls(case.text, request=request)
    try:
        calls = [(call.function.name, json.loads(call.function.arguments)) for call in read.tool_calls]
    except ValueError:
        calls = None
    agrees = ((read.content or "").strip(), calls) == _expected(case.expected)
    assert agrees == ("vllm differs" not in case.options), (read.content, calls)
