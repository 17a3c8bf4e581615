"""The ways to choose workers that are compared: the router's own modes, and another product's cost.

kv, round_robin, random, least_loaded, power_of_two, session      as a fleet serves with them
dynamo, dynamo:4                                                  Dynamo's cost, with its prefill load scale
"""

import random
from collections.abc import Callable
from dataclasses import replace

from tritium.backends.engine import Role
from tritium.core.errors import InvalidArgument
from tritium.router.choice import Mode
from tritium.router.router import Router
from tritium.simulation.dynamo import DECODE, DynamoCost, DynamoRouter

POLICIES = (*map(str, Mode), "dynamo")


def router_of(
    policy: str, block_tokens: int, *, seed: int = 0, most_prefill_tokens: int = 0
) -> Callable[[Role], Router]:
    """Return what makes a role's router that chooses by a policy.

    Raises:
        InvalidArgument: there is no policy of that name.
    """
    name, _, scale = policy.partition(":")
    rng = random.Random(seed)  # noqa: S311  it draws lots, not keys
    if name == "dynamo":
        cost = DynamoCost(prefill_load_scale=_scale(policy, scale))
        decode = replace(DECODE, prefill_load_scale=cost.prefill_load_scale)
        return lambda role: DynamoRouter(block_tokens, decode if role is Role.DECODE else cost, rng)
    if scale or name.replace("-", "_") not in set(Mode):
        raise InvalidArgument(f"there is no policy '{policy}'", hint=f"one of {', '.join(POLICIES)}, dynamo:SCALE")
    mode = Mode(name.replace("-", "_"))
    return lambda _: Router(block_tokens, mode, rng=rng, most_prefill_tokens=most_prefill_tokens)


def _scale(policy: str, text: str) -> float:
    try:
        scale = float(text or 1.0)
    except ValueError:
        scale = -1.0
    if not 0 <= scale < float("inf"):
        raise InvalidArgument(f"policy '{policy}': '{text}' is no prefill load scale", hint="write dynamo:4")
    return scale
