"""The sample model answers with the same tokens from the embedded engine and from real vLLM."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tritium.backends.embedded.engine import EmbeddedEngine
from tritium.backends.engine import EngineSource

VERSION_FOLDER = Path(__file__).parents[3] / "model_repository" / "tiny_chat" / "1"
TOPICS = VERSION_FOLDER.parent / "train" / "topics.txt"
TOKENS = 100

# One process, engine included: vLLM's own would outlive a test that is cut off.
VLLM = """
import json, sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    asked = json.load(sys.stdin)
    engine = LLM(**asked["arguments"])
    sampling = SamplingParams(max_tokens=asked["tokens"], temperature=0, logprobs=2)
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in asked["prompts"]], sampling, use_tqdm=False)
    answers = [
        {
            "tokens": list(output.token_ids),
            "finish": output.finish_reason,
            "stop": output.stop_reason,
            "logprobs": [
                sorted(([id_, each.logprob, each.rank] for id_, each in place.items()), key=lambda row: row[2])
                for place in output.logprobs
            ],
        }
        for output in (result.outputs[0] for result in outputs)
    ]
    print("ANSWERS", json.dumps(answers))
"""


def questions() -> list[str]:
    """Return a question of every topic that the model was taught, and the prompts of the front page."""
    blocks = TOPICS.read_text().split("\n\n")
    first = [next((line[2:] for line in block.splitlines() if line.startswith("? ")), "") for block in blocks]
    return ["Hello", "What is a KV cache?", "What is disaggregated serving?", *filter(None, first)]


def prompts() -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(VERSION_FOLDER / "tiny_chat" / "tokenizer.json"))
    texts = [f"<|bos|><|user|>{question}<|end|><|assistant|>" for question in questions()]
    long = "".join(f"<|user|>{question}<|end|><|assistant|>I see.<|end|>" for question in questions()[:60])
    texts.append(f"<|bos|>{long}<|user|>What is a router?<|end|><|assistant|>")
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


@pytest.mark.vllm
@pytest.mark.timeout(300)
async def test_greedy_output_equals_vllm(drive: Callable[..., Any]) -> None:
    """Token by token, finish reason included, on a question of every topic and on a prompt of many blocks.

    Log probabilities agree to a thousandth, ranks of the likeliest two tokens included.
    """
    pytest.importorskip("vllm")
    arguments = json.loads((VERSION_FOLDER / "model.json").read_text())
    asked = prompts()
    assert len(asked) > 100
    assert max(map(len, asked)) > 600
    arguments["model"] = str(VERSION_FOLDER / arguments["model"])
    expected = await ask_vllm({"arguments": arguments, "prompts": asked, "tokens": TOKENS})

    folder = Path(arguments.pop("model"))
    async with drive(EmbeddedEngine(EngineSource(folder, arguments))) as driver:
        numbers = [driver.submit(tokens, max_tokens=TOKENS, temperature=0.0, logprobs=2) for tokens in asked]
        results = [await driver.result(number) for number in numbers]

    different = [
        (index, answer["tokens"], result.tokens)
        for index, (answer, result) in enumerate(zip(expected, results, strict=True))
        if answer["tokens"] != result.tokens
    ]
    assert different == []
    for answer, result in zip(expected, results, strict=True):
        assert (answer["finish"], answer["stop"]) == (result.last.finish, result.last.stop_token)
        for place, delta in zip(answer["logprobs"], result.deltas, strict=True):
            assert delta.logprobs is not None
            reported = delta.logprobs[0][1:]
            assert [row[1] for row in place[:2]] == pytest.approx([each.logprob for each in reported], abs=1e-3)
            assert place[0][0] == reported[0].token_id


async def ask_vllm(question: dict[str, Any]) -> list[dict[str, Any]]:
    """Run vLLM once in a process of its own and return its answers."""
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        VLLM,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(json.dumps(question).encode()), 240)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    answers = [line for line in output.decode().splitlines() if line.startswith("ANSWERS ")]
    assert answers, output.decode()[-4000:]
    return list(json.loads(answers[0].removeprefix("ANSWERS ")))
