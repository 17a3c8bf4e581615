"""A tiny random model, and an engine that is driven by awaiting whole generations."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tritium.backends.embedded.engine import EmbeddedEngine
from tritium.backends.engine import (
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    Generate,
    KvEvent,
    LanguageEngine,
    Role,
    Step,
)

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


def tensors_of(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Return random weights of a tied Llama of that configuration."""
    random = np.random.default_rng(seed)
    width, mlp, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    for index in range(config["num_hidden_layers"]):
        at = f"model.layers.{index}."
        shapes |= {
            f"{at}input_layernorm.weight": (width,),
            f"{at}post_attention_layernorm.weight": (width,),
            f"{at}self_attn.q_proj.weight": (config["num_attention_heads"] * head, width),
            f"{at}self_attn.k_proj.weight": (config["num_key_value_heads"] * head, width),
            f"{at}self_attn.v_proj.weight": (config["num_key_value_heads"] * head, width),
            f"{at}self_attn.o_proj.weight": (width, config["num_attention_heads"] * head),
            f"{at}mlp.gate_proj.weight": (mlp, width),
            f"{at}mlp.up_proj.weight": (mlp, width),
            f"{at}mlp.down_proj.weight": (width, mlp),
        }
    return {
        name: (random.normal(size=shape) * 0.3 + (1.0 if len(shape) == 1 else 0.0)).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_model(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a random model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = TINY | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors_of(config, seed), folder / "model.safetensors")
    return folder


@dataclass
class Result:
    """One whole generation."""

    tokens: list[int] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)

    @property
    def last(self) -> Delta:
        return self.deltas[-1]

    @property
    def cached_tokens(self) -> int | None:
        return self.deltas[0].cached_tokens


class Driver:
    """An engine under test: generations by `await generate(...)`, steps and events kept."""

    def __init__(self, engine: LanguageEngine) -> None:
        self.engine = engine
        self.steps: list[Step] = []
        self.events: list[KvEvent] = []
        self.info: EngineInfo | None = None
        self.results: dict[int, Result] = {}
        self.moved = asyncio.Event()
        self._done: dict[int, asyncio.Future[Result]] = {}
        self._ids = itertools.count(1)

    async def start(self) -> EngineInfo:
        self.info = await self.engine.start(EngineSinks(self._on_step, self.events.extend))
        return self.info

    def _on_step(self, step: Step) -> None:
        self.steps.append(step)
        for delta in step.deltas:
            result = self.results[delta.id]
            assert not (result.deltas and result.deltas[-1].finish), "a delta after the last"
            result.deltas.append(delta)
            result.tokens += delta.token_ids
            if delta.finish:
                self._done[delta.id].set_result(result)
        self.moved.set()

    def submit(self, tokens: list[int], *, transfer: dict[str, Any] | None = None, **sampling: Any) -> int:
        """Submit and return the id; `request_*` keywords are fields of Generate, the rest sampling fields."""
        fields = {name.removeprefix("request_"): sampling.pop(name) for name in list(sampling) if "request_" in name}
        number = next(self._ids)
        self.results[number] = Result()
        self._done[number] = asyncio.get_running_loop().create_future()
        # As fleets do it: of prefill workers nothing but KV for others is asked.
        fields.setdefault("keep", self.engine._source.role is Role.PREFILL)
        self.engine.submit(Generate(number, tokens, sampling, transfer, **fields))
        return number

    async def result(self, number: int) -> Result:
        return await asyncio.wait_for(self._done[number], 60)

    async def generate(self, tokens: list[int], **options: Any) -> Result:
        return await self.result(self.submit(tokens, **options))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a step has made the condition true."""

        async def wait() -> None:
            while not condition():
                self.moved.clear()
                await self.moved.wait()

        await asyncio.wait_for(wait(), 60)


@asynccontextmanager
async def driving(engine: LanguageEngine) -> AsyncIterator[Driver]:
    driver = Driver(engine)
    await driver.start()
    try:
        yield driver
    finally:
        await engine.stop()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers, in float32."""
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def run_engine(tiny_model: Path) -> Callable[..., Any]:
    """Run an embedded engine on the tiny model: `async with run_engine(block_size=8) as driver`."""

    def run(*, folder: Path = tiny_model, role: Role = Role.AGGREGATED, worker: str = "w", **arguments: Any) -> Any:
        return driving(EmbeddedEngine(EngineSource(folder, arguments, role, worker)))

    return run


@pytest.fixture
def drive() -> Callable[[LanguageEngine], Any]:
    """Run any engine."""
    return driving


@pytest.fixture
def model_writer() -> Callable[..., Path]:
    """Write variants of the tiny model."""
    return write_model


@pytest.fixture
def greedy() -> dict[str, Any]:
    """Sampling that always takes the likeliest token and does not stop early."""
    return {"temperature": 0.0, "ignore_eos": True}


@pytest.fixture
def prompt() -> Callable[..., list[int]]:
    """Draw a prompt of the tiny model's vocabulary."""

    def draw(length: int, seed: int = 0) -> list[int]:
        return [int(token) for token in np.random.default_rng(seed).integers(3, 120, length)]

    return draw
