"""Small fleets whose times can be reckoned by hand."""

from collections.abc import Callable, Sequence

import pytest

from tritium.cluster.spec import parse_fleet
from tritium.simulation.request import Request, Workload
from tritium.simulation.scenario import Outcome, Scenario, play
from tritium.simulation.summary import Goal

TIMING = {"base_ms": 10, "prompt_token_ms": 1, "sequence_ms": 1}
"""A step: 10 ms, and one more for every token."""

Serve = Callable[..., Outcome]


@pytest.fixture
def serve() -> Serve:
    """Play requests through engines with blocks of 4 tokens and the timing above."""

    def play_by_hand(requests: Sequence[Request], fleet: str = "workers=1", policy: str = "kv", **more: int) -> Outcome:
        mocker = {"timing": TIMING, "watermark": 0, "kv_bytes": 1 << 20, "transfer_gib_s": 1 / 1.024}
        engine = {
            "num_gpu_blocks_override": 64,
            "max_num_batched_tokens": 64,
            "max_num_seqs": 8,
            "mocker": mocker,
            **more,
        }
        workload = Workload("by hand", 4, lambda: iter(requests))
        return play(Scenario(parse_fleet(fleet), workload, engine, Goal()), policy)

    return play_by_hand
