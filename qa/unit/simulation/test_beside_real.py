"""The simulation against what it simulates: worker processes with the mocker, behind a real fleet."""

import asyncio
import random

from qa.bench.openai_front.model import write_model

from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet
from tritium.router.blocks import hash_blocks
from tritium.simulation.request import Request, Workload
from tritium.simulation.scenario import Scenario, play
from tritium.simulation.summary import Goal

BLOCK, BLOCKS, OUTPUT = 16, 40, 20


class Sink:
    """Keeps what an answer says of the cache, and waits for its end."""

    def __init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self.cached = 0

    def on_delta(self, delta):
        self.cached += delta.cached_tokens or 0
        if delta.finish is not None:
            self.over.set_result(None)

    def on_failure(self, error):
        self.over.set_exception(error)


async def test_the_same_prompts_are_found_cached(tmp_path):
    """Prompt by prompt, with caches so small that they drop blocks all the time."""
    rng = random.Random(4)
    beginnings = [rng.choices(range(10, 500), k=12 * BLOCK) for _ in range(4)]
    prompts = [rng.choice(beginnings) + rng.choices(range(10, 500), k=rng.randrange(1, 60)) for _ in range(50)]
    engine = {"max_model_len": BLOCK * BLOCKS, "num_gpu_blocks_override": BLOCKS}
    spec = parse_fleet("workers=2,router=round_robin")
    write_model(tmp_path / "model")
    fleet = await start_fleet(
        spec, name="beside", engine="mocker", folder=tmp_path / "model", arguments={**engine, "block_size": BLOCK}
    )
    really = []
    try:
        for prompt in prompts:
            sink = Sink()
            fleet.generate(GenerationRequest(prompt, {"max_tokens": OUTPUT, "ignore_eos": True}), sink)
            await asyncio.wait_for(sink.over, 60)
            really.append(sink.cached)
    finally:
        await fleet.close()

    def requests():
        for number, prompt in enumerate(prompts):
            yield Request(number, 0.0, len(prompt), OUTPUT, hash_blocks(prompt, BLOCK))

    timed = {**engine, "mocker": {"timing": {"base_ms": 1}}}
    scenario = Scenario(spec, Workload("beside", BLOCK, requests), timed, Goal(), streams=1)
    simulated = list(play(scenario, "round_robin").records.cached_tokens)
    assert simulated == really
    assert 0 < sum(cached > 0 for cached in really) < len(really)
