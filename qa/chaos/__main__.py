"""`python -m qa.chaos`: a fleet under load, of which something is killed or stopped every other second.

Every answer is compared with the same one undisturbed. It must be whole and right, or end in an error; none may hang.
At the end nothing may be under way, and no process and no file left behind. The exit status says whether that is so.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from qa.bench.openai_front.model import write_model
from qa.chaos.harm import HARMS, Harm
from qa.chaos.load import Load, references
from qa.chaos.server import FleetServer

SAMPLE = Path(__file__).parents[2] / "model_repository" / "tiny_chat" / "1"
ENGINES = {
    "mocker": {"max_model_len": 4096, "mocker": {"timing": {"base_ms": 10}}},
    "embedded": {"dtype": "float32", "max_model_len": 1024, "block_size": 32},
}
FLEETS = {
    "aggregated": "workers=3",
    "disaggregated": "prefill=1,decode=2",
}
BOUNDS = ",load_s=20,silent_s=3,stuck_s=4,canary_s=1,moves=20,hold_s=30"
"""Short enough that every bound is met in the time of a run."""


async def run(server: FleetServer, harms: list[Harm], options: argparse.Namespace) -> list[str]:
    """Do harm for so long, and return what was not as it should be."""
    chance = random.Random(options.seed)
    expected = await references(server)
    load = Load(server, expected, options.seed)
    clients = [asyncio.create_task(load.client()) for _ in range(options.streams)]
    end_s = time.monotonic() + options.seconds
    while time.monotonic() < end_s:
        await asyncio.sleep(chance.uniform(*options.pause))
        harm = chance.choice(harms)
        await harm.do(server, chance)
    load.ending = True
    await asyncio.gather(*clients)
    wrong = load.complaints()
    print(load.table())
    print("harm: " + ", ".join(f"{harm.name} {harm.done}" for harm in harms))
    wrong += await settled(server)
    server.stop()
    return wrong + [f"left behind: {what}" for what in server.left()]


async def settled(server: FleetServer, within_s: float = 120.0) -> list[str]:
    """Return what is not at rest after so long without a request."""
    due = {"tritium_fleet_active_requests": 0.0, "tritium_router_worker_active": 0.0, "tritium_worker_ready": 3.0}
    found: dict[str, float] = {}
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        found = {name: await asyncio.to_thread(server.metric, name) for name in due}
        if found == due:
            return []
        await asyncio.sleep(0.1)
    return [f"{name} is {found[name]:g} at rest, not {value:g}" for name, value in due.items() if found[name] != value]


def main() -> None:
    """Run in a scratch folder, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m qa.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--streams", type=int, default=16, help="clients, each with one request after the other")
    parser.add_argument("--engine", choices=ENGINES, default="mocker")
    parser.add_argument("--fleet", choices=FLEETS, default="aggregated")
    parser.add_argument("--harm", default=",".join(HARMS), help="what is done, separated by commas")
    parser.add_argument("--pause", type=float, nargs=2, default=(0.5, 3.0), help="seconds between two harms, from to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = SAMPLE / "tiny_chat"
        if options.engine == "mocker":
            write_model(model := scratch / "model")
        server = FleetServer(scratch, model, options.engine, FLEETS[options.fleet] + BOUNDS, ENGINES[options.engine])
        server.start()
        try:
            wrong = asyncio.run(run(server, [HARMS[name]() for name in options.harm.split(",")], options))
        finally:
            server.stop()
    for complaint in wrong:
        print(complaint)
    print("all is as it should be" if not wrong else f"{len(wrong)} complaints")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
