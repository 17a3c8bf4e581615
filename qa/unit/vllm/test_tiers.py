"""The connector's two sides, with a real block store between them and vLLM's scheduler played by hand."""

# ruff: noqa: PLC0415  torch and vLLM take seconds to import, and are not installed everywhere

import importlib.util
from types import SimpleNamespace

import pytest
from qa.unit.vllm.test_tiers_pace import Clock, fetch

from tritium.kv.block import Tier
from tritium.kv.settings import HostSettings, StoreSettings
from tritium.kv.store import BlockStore

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test does"),
    pytest.mark.vllm,
    pytest.mark.filterwarnings("ignore"),  # vLLM's and torch's own, at import
    pytest.mark.timeout(300),  # the import alone may take a minute on a machine that is busy
]

BLOCK = 4
DEVICE_BLOCKS = 16


class Engine:
    """One engine: a planner, a mover with a host tier, and a KV cache of two layers that tests write into."""

    def __init__(self, host_blocks=32, *, always=False, **settings) -> None:
        import torch

        from tritium.backends.vllm.tiers.layout import Layout
        from tritium.backends.vllm.tiers.mover import Mover
        from tritium.backends.vllm.tiers.planner import Planner

        self.caches = {f"layer.{i}": torch.zeros(DEVICE_BLOCKS, 2, BLOCK, 6, dtype=torch.bfloat16) for i in range(2)}
        layout = Layout(self.caches, DEVICE_BLOCKS)
        host = HostSettings(host_blocks * layout.block_bytes, pinned=False)
        self.store = BlockStore(StoreSettings(layout.block_bytes, host=host, **settings), BLOCK)
        self.mover = Mover(layout, self.store, b"p" * 16, 0)
        self.planner = Planner(block_tokens=BLOCK, block_bytes=layout.block_bytes, ranks=1, always=always)
        self.tables = {}
        self.told = []

    def request(self, name, tokens, **fields):
        hashes = [f"{fields.get('salt', '')}{tokens[: end + BLOCK]}".encode() for end in range(0, len(tokens), BLOCK)]
        made = SimpleNamespace(
            request_id=name,
            num_tokens=len(tokens),
            all_token_ids=tokens,
            block_hashes=hashes[: len(tokens) // BLOCK],
            lora_request=fields.get("lora"),
            mm_features=[],
            cache_salt=fields.get("salt"),
        )
        self.planner.meet(made)
        return made

    def step(self, scheduled=()):
        """Run one step: (request, tokens computed before, tokens of this step, blocks on the device) each."""
        for request, _, _, table in scheduled:
            self.tables[request.request_id] = table
        counts = {request.request_id: tokens for request, _, tokens, _ in scheduled}
        plan = self.planner.plan(
            SimpleNamespace(
                scheduled_new_reqs=[
                    SimpleNamespace(req_id=request.request_id, num_computed_tokens=before)
                    for request, before, _, _ in scheduled
                ],
                scheduled_cached_reqs=SimpleNamespace(req_ids=[], num_computed_tokens=[]),
                num_scheduled_tokens=counts,
                total_num_scheduled_tokens=sum(counts.values()),
                kv_connector_block_state=SimpleNamespace(get_block_ids=lambda name: (self.tables[name],)),
            )
        )
        plan.prefill = False  # no model runs here: how long a step takes says nothing
        self.mover.begin_step()
        self.mover.load(plan.loads)
        self.mover.end_step(plan)
        done = self.mover.look(idle=not plan.tokens)
        self._tell()
        return done

    def settle(self):
        """Run empty steps until all saves are over."""
        assert self.store.settle(30)
        for _ in range(10_000):
            if not self.planner.saving:
                return
            self.step()
        pytest.fail("saves never settled")

    def fetch(self, request, table, computed=0):
        """Load what is wanted of a request; return how many tokens, and the blocks that failed."""
        tokens = self.planner.wanted_tokens(request, computed)
        self.planner.allocated(request, table, tokens)
        for _ in range(100_000):
            if not tokens or request.request_id in self.step():
                break
        else:
            pytest.fail("the load never ended")
        return tokens, self.mover.take_failed_blocks()

    def _tell(self):
        from tritium.backends.vllm.tiers.plan import Report

        if (report := self.mover.report()) is not None:
            self.told += report.changes
            self.planner.learn(Report([report]))


@pytest.fixture
def engine():
    made = Engine()
    yield made
    made.mover.close()


def _fill(engine, blocks, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    for cache in engine.caches.values():
        cache[blocks] = torch.randn(len(blocks), *cache.shape[1:], generator=generator).to(cache.dtype)
    return [cache[blocks].clone() for cache in engine.caches.values()]


def test_blocks_come_back_in_other_places(engine):
    """What one request computed is loaded for another into other blocks of the device, bit for bit."""
    tokens = list(range(13))
    kept = _fill(engine, [3, 1, 7], seed=1)
    engine.step([(engine.request("a", tokens), 0, 13, [3, 1, 7, 9])])
    engine.settle()
    fetched, failed = engine.fetch(engine.request("b", tokens), [5, 2, 8, 4])
    assert (fetched, failed) == (12, set())
    for cache, was in zip(engine.caches.values(), kept, strict=True):
        assert cache[[5, 2, 8]].equal(was)
        assert not cache[4].any()


def test_a_prompt_keeps_a_token_to_compute(engine):
    """Of a prompt that is held whole the last block is computed: its last token's output is asked for."""
    tokens = list(range(8))
    engine.step([(engine.request("a", tokens), 0, 8, [1, 2])])
    engine.settle()
    assert engine.planner.wanted_tokens(engine.request("b", tokens), 0) == 4


def test_what_the_device_holds_is_not_fetched(engine):
    """Only blocks beyond those that are computed already are loaded, to their places."""
    tokens = list(range(13))
    kept = _fill(engine, [1, 2, 3], seed=2)
    engine.step([(engine.request("a", tokens), 0, 13, [1, 2, 3, 4])])
    engine.settle()
    fetched, _ = engine.fetch(engine.request("b", tokens), [1, 6, 7, 8], computed=4)
    assert fetched == 8
    for cache, was in zip(engine.caches.values(), kept, strict=True):
        assert cache[[6, 7]].equal(was[1:])


def test_blocks_are_saved_once_and_when_complete(engine):
    """A block that a step leaves incomplete is saved by the step that completes it; held ones are not saved again."""
    tokens = list(range(12))
    request = engine.request("a", tokens)
    engine.step([(request, 0, 6, [1, 2, 3])])
    engine.settle()
    assert len(engine.planner.holdings) == 1
    engine.step([(request, 6, 6, [1, 2, 3])])
    engine.settle()
    assert len(engine.planner.holdings) == 3
    engine.step([(engine.request("b", tokens), 0, 12, [4, 5, 6])])
    assert not engine.planner.saving


def test_blocks_that_are_gone_are_computed(engine):
    """A load of blocks that left after it was planned ends all the same, with these blocks told to vLLM."""
    tokens = list(range(13))
    engine.step([(engine.request("a", tokens), 0, 13, [1, 2, 3, 4])])
    engine.settle()
    request = engine.request("b", tokens)
    assert engine.planner.wanted_tokens(request, 0) == 12
    engine.store.clear()
    fetched, failed = engine.fetch(request, [5, 6, 7, 8])
    assert (fetched, failed) == (12, {5, 6, 7})
    assert engine.planner.wanted_tokens(engine.request("c", tokens), 0) == 0


def test_the_router_is_told_in_tokens(engine):
    """Events name blocks as vLLM does, with their tokens, parent and salt; what leaves is told as well."""
    from vllm.distributed.kv_events import BlockRemoved, BlockStored
    from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash

    request = engine.request("a", list(range(8)), salt="s")
    engine.step([(request, 0, 8, [1, 2])])
    engine.settle()
    first, second = engine.planner.lineage.drain()
    names = [maybe_convert_block_hash(block) for block in request.block_hashes]
    assert isinstance(first, BlockStored)
    assert (first.block_hashes, first.parent_block_hash, first.token_ids) == ([names[0]], None, [0, 1, 2, 3])
    assert (first.medium, first.extra_keys) == ("CPU", [("s",)])
    assert (second.parent_block_hash, second.extra_keys) == (names[0], None)
    engine.store.clear()
    engine.step()
    gone = engine.planner.lineage.drain()
    assert [type(event) for event in gone] == [BlockRemoved, BlockRemoved]
    assert {event.block_hashes[0] for event in gone} == set(names)


def test_saves_beyond_the_bound_are_dropped_and_may_come_again():
    """More than the store takes at once is not waited for; the next request that computes it saves it."""
    engine = Engine(save_bytes_in_flight=2 * 2 * 2 * BLOCK * 6 * 2)
    tokens = list(range(16))
    engine.step([(engine.request("a", tokens), 0, 16, [1, 2, 3, 4])])
    engine.settle()
    assert len(engine.planner.holdings) == 0
    engine.step([(engine.request("b", tokens[:8]), 0, 8, [1, 2])])
    engine.settle()
    assert len(engine.planner.holdings) == 2
    engine.mover.close()


def test_adapters_are_left_alone(engine):
    """An adapter is known by its name only, and may be another after a restart: its blocks are not kept."""
    request = engine.request("a", list(range(8)), lora=object())
    engine.step([(request, 0, 8, [1, 2])])
    assert not engine.planner.saving
    assert engine.planner.wanted_tokens(request, 0) == 0


def test_onboarding_that_does_not_pay_is_computed(engine):
    """Where loading is known to be slower than computing, nothing is fetched, and that is counted."""
    tokens = list(range(13))
    engine.step([(engine.request("a", tokens), 0, 13, [1, 2, 3, 4])])
    engine.settle()
    for size in (1000, 2000):
        engine.planner.advisor.learn_prefill(size, size * 1e-9)
        engine.planner.advisor.learn_load(Tier.HOST, size, size * 1.0)
    assert engine.planner.wanted_tokens(engine.request("b", tokens), 0) == 0
    assert sorted(engine.planner.advised.values()) == [0, 1]


def test_everything_is_fetched_on_demand():
    """With fetch=always what is held is fetched, whatever it costs; nothing is counted as a decision."""
    engine = Engine(always=True)
    tokens = list(range(13))
    engine.step([(engine.request("a", tokens), 0, 13, [1, 2, 3, 4])])
    engine.settle()
    for size in (1000, 2000):
        engine.planner.advisor.learn_prefill(size, size * 1e-9)
        engine.planner.advisor.learn_load(Tier.HOST, size, size * 1.0)
    assert engine.planner.wanted_tokens(engine.request("b", tokens), 0) == 12
    assert not any(engine.planner.advised.values())
    engine.mover.close()


def test_tenants_are_told_apart_in_the_store(engine):
    """A cache salt stands in the keys as the tenant, so that its share of a tier can be bounded."""
    from tritium.kv.block import TENANT_BYTES, tenant_digest

    tokens = list(range(9))
    engine.step([(engine.request("a", tokens, salt="ours"), 0, 9, [1, 2, 3])])
    engine.step([(engine.request("b", tokens), 0, 9, [4, 5, 6])])
    engine.settle()
    assert {change.block[:TENANT_BYTES] for change in engine.told} == {tenant_digest("ours"), tenant_digest("")}
    assert engine.fetch(engine.request("c", tokens, salt="ours"), [7, 8, 9])[0] == 8
    assert engine.fetch(engine.request("d", tokens, salt="theirs"), [10, 11, 12])[0] == 0


def _held_prompt(engine, tier_s, prefill_s):
    """Return a request of 40 tokens that is held, by an engine that knows how long its tier and its prefills take."""
    tokens = list(range(40))
    engine.step([(engine.request("a", tokens), 0, 40, list(range(1, 11)))])
    engine.settle()
    for size in (1, 40):
        engine.planner.advisor.prefill.learn(size, size * prefill_s)
        engine.planner.advisor.loads[Tier.HOST] = type(engine.planner.advisor.prefill)()
    for blocks in (1, 10):
        size_bytes = blocks * engine.store.settings.block_bytes
        engine.planner.advisor.loads[Tier.HOST].learn(size_bytes, blocks * tier_s)
    return engine.request("b", tokens)


@pytest.mark.parametrize(
    ("tier_s", "handover_s", "tokens", "because"),
    [
        (0.001, 0.0, 36, "9 from host: 13.0 ms against 40.0 ms"),
        (0.001, 0.02, 36, "9 from host: 13.0 ms against 40.0 ms"),
        (0.001, 0.03, 0, "and 30.0 ms until the engine goes on"),
        (0.1, 0.0, 0, "would take"),
    ],
)
def test_fetches_only_what_comes_sooner(engine, tier_s, handover_s, tokens, because):
    """With the engine's own time counted, and why, in words."""
    request = _held_prompt(engine, tier_s, prefill_s=0.001)
    from tritium.backends.vllm.tiers.pace import Pace

    engine.planner.pace = Pace(clock := Clock())
    for _ in range(3):
        fetch(engine.planner.pace, clock, load_s=0.1, whole_s=0.1 + handover_s)
    assert engine.planner.wanted_tokens(request, 0) == tokens
    assert because in engine.planner.why("b")


def test_a_tier_that_made_a_prompt_late_is_left_alone(engine):
    """Its next prompt is computed, though what was learnt before says that the tier is fast."""
    request = _held_prompt(engine, tier_s=0.001, prefill_s=0.001)
    engine.planner.pace.began("x", {Tier.HOST}, 0.5)
    engine.planner.pace.loaded("x", 60.0)
    assert engine.planner.wanted_tokens(request, 0) == 0
    assert "slower than computing a moment ago" in engine.planner.why("b")


def test_a_load_is_not_tried_twice(engine):
    """A tier that is down still says what it held: a request whose load failed is computed, not loaded for ever."""
    tokens = list(range(13))
    engine.step([(engine.request("a", tokens), 0, 13, [1, 2, 3, 4])])
    engine.settle()
    request = engine.request("b", tokens)
    assert engine.fetch(request, [5, 6, 7, 8])[0] == 12
    assert engine.planner.wanted_tokens(request, 0) == 0
    assert engine.planner.wanted_tokens(engine.request("c", tokens), 0) == 12
