"""The KV connector that vLLM loads by `kv_connector_module_path`: hands its calls to a planner and a mover.

scheduler process: TieredConnector -> Planner --StepPlan--> worker processes: TieredConnector -> Mover -> BlockStore
                                        ^----------Report, a step later----------'
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_events import KVCacheEvent
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.v1.kv_cache_interface import AttentionSpec
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from tritium.backends.vllm.tiers.mover import Mover
from tritium.backends.vllm.tiers.opening import open_mover, rank_of
from tritium.backends.vllm.tiers.plan import Report, StepPlan
from tritium.backends.vllm.tiers.planner import Planner
from tritium.backends.vllm.tiers.setting import read_tiers
from tritium.backends.vllm.tiers.stats import NoPromMetrics, TierStats
from tritium.core.errors import InvalidArgument
from tritium.kv.block import Tier

if TYPE_CHECKING:
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

_SOURCES = {Tier.HOST: CacheHitSource.HOST, Tier.PEER: CacheHitSource.P2P, Tier.DISK: CacheHitSource.DISK}


class TieredConnector(KVConnectorBase_V1):
    """See `vllm.distributed.kv_transfer.kv_connector.v1.base` for the contract of each call."""

    requires_kv_delivery = False  # a block that was not saved is computed again

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._planner: Planner | None = None
        self._mover: Mover | None = None
        if role is not KVConnectorRole.SCHEDULER:
            return
        parallel = vllm_config.parallel_config
        groups = kv_cache_config.kv_cache_groups
        if len(groups) != 1 or not isinstance(groups[0].kv_cache_spec, AttentionSpec):
            raise InvalidArgument("kv_tiers serves models with one kind of attention cache", "leave kv_tiers out")
        if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
            raise InvalidArgument("kv_tiers does not serve context parallelism", "leave kv_tiers out")
        spec = groups[0].kv_cache_spec
        self._planner = Planner(
            block_tokens=spec.block_size,
            block_bytes=spec.page_size_bytes * len(groups[0].layer_names),
            ranks=parallel.tensor_parallel_size * parallel.pipeline_parallel_size,
            always=read_tiers(self._kv_transfer_config.kv_connector_extra_config["tiers"]).always,
        )

    # In the worker processes.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Open the tiers."""
        self._mover = open_mover(self._vllm_config, self._kv_cache_config, self._kv_transfer_config, kv_caches)

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        """Return what the tiers hold at the start."""
        report = self._mover.report() if self._mover is not None else None
        return Report([report]) if report is not None else None

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        """Take the plan of a step that is about to run."""
        super().bind_connector_metadata(connector_metadata)
        if self._mover is not None:
            self._mover.begin_step()

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:  # noqa: ARG002  vLLM's names
        """Begin the step's loads."""
        if self._mover is not None and (loads := self._plan.loads):
            self._mover.load(loads)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing to wait for: requests wait for their loads before they run."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing to do by layer: blocks are saved whole, after the step."""

    def wait_for_save(self) -> None:
        """Copy out what the step has completed; the device's blocks are free to be overwritten when this returns."""
        if self._mover is not None:
            self._mover.end_step(self._plan)

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:  # noqa: ARG002
        """Return the requests whose blocks have come."""
        if self._mover is None:
            return None, None
        return None, self._mover.look(idle=not self._plan.tokens)

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return the blocks that did not come, to be computed."""
        return self._mover.take_failed_blocks() if self._mover is not None else set()

    def build_connector_worker_meta(self) -> Report | None:
        """Tell the scheduler what has changed."""
        report = self._mover.report() if self._mover is not None else None
        return Report([report]) if report is not None else None

    def shutdown(self) -> None:
        """Close the tiers."""
        if self._mover is not None:
            self._mover.close()
            self._mover = None

    # In the scheduler's process.

    def set_xfer_handshake_metadata_pp_aware(
        self, metadata: dict[tuple[int, int], KVConnectorHandshakeMetadata]
    ) -> None:
        """Learn what the tiers hold at the start; beside another connector that is told with the first step."""
        assert self._planner is not None
        for report in metadata.values():
            if isinstance(report, Report):
                self._planner.learn(report)

    def on_new_request(self, request: "Request") -> None:
        """Follow a request."""
        assert self._planner is not None
        self._planner.meet(request)

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int | None, bool]:
        """Return how many tokens to fetch; the request waits for them while others run."""
        assert self._planner is not None
        tokens = self._planner.wanted_tokens(request, num_computed_tokens)
        return tokens, tokens > 0

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        """Plan the load, now that its place is known."""
        assert self._planner is not None
        self._planner.allocated(request, blocks.get_block_ids()[0], num_external_tokens)

    def get_external_cache_hit_sources(self, request: "Request", num_external_tokens: int) -> dict[CacheHitSource, int]:
        """Say by tier where tokens come from, in vLLM's own words."""
        assert self._planner is not None
        told: dict[CacheHitSource, int] = {}
        for tier in self._planner.tiers_of(request, num_external_tokens):
            source = _SOURCES.get(tier, CacheHitSource.EXTERNAL_UNSPECIFIED)
            told[source] = told.get(source, 0) + self._planner.block_tokens
        return told

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> StepPlan:
        """Return the plan of a step."""
        assert self._planner is not None
        return self._planner.plan(scheduler_output)

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        """Learn what the workers tell."""
        assert self._planner is not None
        if isinstance(report := connector_output.kv_connector_worker_meta, Report):
            self._planner.learn(report)

    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:  # noqa: ARG002
        """Forget a request; nothing of it is still to be copied."""
        assert self._planner is not None
        self._planner.forget(request.request_id)
        return False, None

    def has_pending_push_work(self) -> bool:
        """Keep steps going until saves are over, so that the next request finds them."""
        return self._planner is not None and self._planner.saving

    def take_events(self) -> Iterable[KVCacheEvent]:
        """Return what came to tiers and left them, for vLLM to publish."""
        return self._planner.lineage.drain() if self._planner is not None else ()

    # On either side, for vLLM's statistics.

    def get_kv_connector_stats(self) -> "KVConnectorStats | None":
        """Return the counts of this side."""
        if self._mover is not None:
            stats = self._mover.stats()
            return TierStats.of_store(rank_of(self._vllm_config), stats) if stats is not None else None
        if self._planner is not None and any(self._planner.advised.values()):
            return TierStats.of_decisions(self._planner.advised)
        return None

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> "KVConnectorStats | None":
        """Return statistics from their payload."""
        return TierStats(data or {})

    @classmethod
    def build_prom_metrics(
        cls, vllm_config: VllmConfig, metric_types: Any, labelnames: list[str], per_engine_labelvalues: Any
    ) -> "KVConnectorPromMetrics | None":
        """Return a sink, which MultiConnector insists on."""
        return NoPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    @property
    def _plan(self) -> StepPlan:
        plan = self._get_connector_metadata()
        assert isinstance(plan, StepPlan)
        return plan
