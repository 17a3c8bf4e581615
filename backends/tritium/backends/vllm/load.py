"""What vLLM's scheduler says of itself: how much runs and waits, and counters, KV moved by NIXL among them."""

from collections import Counter
from typing import Any

from tritium.backends.vllm.tiers.counts import TierCounts

COUNTERS = (
    "tritium_engine_prompt_tokens_total",
    "tritium_engine_cached_prompt_tokens_total",
    "tritium_engine_output_tokens_total",
    "tritium_engine_preemptions_total",
    "tritium_kv_received_bytes_total",
    "tritium_kv_pulls_total",
    "tritium_kv_pull_failures_total",
)


class VllmLoad:
    """The latest scheduler statistics, gathered through vLLM's stat logger interface."""

    def __init__(self) -> None:
        self.steps = 0
        self.running = 0
        self.waiting = 0
        self.cache_usage = 0.0
        self.total_blocks = 0
        self._counters = Counter(dict.fromkeys(COUNTERS, 0))
        self._transfer_s = 0.0
        self.tiers = TierCounts()

    @property
    def used_blocks(self) -> int:
        """Return how many blocks hold sequences that run."""
        return round(self.cache_usage * self.total_blocks)

    def follow(self, _config: Any, _index: int = 0) -> "VllmLoad":
        """Serve vLLM as the factory of a stat logger."""
        return self

    def metrics(self) -> dict[str, float]:
        """Return the counters by metric name."""
        return {name: float(value) for name, value in self._counters.items()} | {
            "tritium_engine_running": float(self.running),
            "tritium_engine_waiting": float(self.waiting),
            "tritium_engine_kv_used_blocks": float(self.used_blocks),
            "tritium_engine_kv_total_blocks": float(self.total_blocks),
            "tritium_kv_pull_seconds_total": self._transfer_s,
        }

    # vLLM's stat logger interface (vllm.v1.metrics.loggers.StatLoggerBase).

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_more: Any, **_named: Any) -> None:
        """Take the statistics of one engine step."""
        counters = self._counters
        self.steps += 1
        if scheduler_stats is not None:
            self.running = scheduler_stats.num_running_reqs
            self.waiting = scheduler_stats.num_waiting_reqs
            self.cache_usage = scheduler_stats.kv_cache_usage
            prefix = scheduler_stats.prefix_cache_stats
            counters["tritium_engine_cached_prompt_tokens_total"] += prefix.hits
            if scheduler_stats.kv_connector_stats:
                stats = scheduler_stats.kv_connector_stats
                # With several connectors each has its statistics under its name.
                for of_one in (stats, *(part for part in stats.values() if isinstance(part, dict))):
                    self._transfers(of_one)
                    self.tiers.take(of_one)
        if iteration_stats is not None:
            counters["tritium_engine_prompt_tokens_total"] += iteration_stats.num_prompt_tokens
            counters["tritium_engine_output_tokens_total"] += iteration_stats.num_generation_tokens
            counters["tritium_engine_preemptions_total"] += iteration_stats.num_preempted_reqs

    def log_engine_initialized(self) -> None:
        """Nothing to say: the worker reports itself ready."""

    def log(self) -> None:
        """Nothing to say: counters are read, not printed."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """Ignore sleep mode, which no caller of ours uses."""

    def _transfers(self, stats: dict[str, Any]) -> None:
        """Count what the NIXL connector moved; it reports one entry per transfer since its last report."""
        counters = self._counters
        counters["tritium_kv_received_bytes_total"] += sum(stats.get("bytes_transferred", ()))
        counters["tritium_kv_pulls_total"] += len(stats.get("bytes_transferred", ()))
        counters["tritium_kv_pull_failures_total"] += len(stats.get("num_failed_transfers", ()))
        self._transfer_s += sum(stats.get("transfer_duration", ()))
