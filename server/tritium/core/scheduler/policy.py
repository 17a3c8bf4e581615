"""The settings of the dynamic batcher, read once out of a model's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tritium.compat.config.model import ModelConfig


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How long and how many requests of one priority may wait; 0 means without bound.

    A request whose time is over is rejected, or with `delays` only served after all others. Its own timeout counts
    where `request_may_shorten` is set and the policy has a longer one: Triton does not let a request set a timeout
    where the policy has none.
    """

    timeout_us: int = 0
    delays: bool = False
    request_may_shorten: bool = False
    max_size: int = 0

    def timeout_of(self, requested_us: int) -> int:
        """Return the timeout of a request that asks for one of its own."""
        if self.request_may_shorten and 0 < requested_us < self.timeout_us:
            return requested_us
        return self.timeout_us


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """The dynamic batcher's settings. `compares_shapes` is off where every valid request has the same shapes."""

    max_size: int
    preferred_sizes: frozenset[int]
    max_delay_ns: int = 0
    priority_levels: int = 0
    default_priority: int = 0
    default_queue: QueuePolicy = QueuePolicy()
    queues: Mapping[int, QueuePolicy] = field(default_factory=dict)
    compares_shapes: bool = False
    ragged: frozenset[str] = frozenset()

    @property
    def largest_preferred(self) -> int:
        """Return the largest preferred size."""
        return max(self.preferred_sizes)


def batching_policy(config: ModelConfig) -> BatchingPolicy:
    """Read `dynamic_batching` of a configuration."""
    batching = config.proto.dynamic_batching
    return replace(
        _sizes_and_shapes(config, batching),
        priority_levels=batching.priority_levels,
        default_priority=batching.default_priority_level,
        default_queue=_queue_policy(batching.default_queue_policy),
        queues={level: _queue_policy(policy) for level, policy in batching.priority_queue_policy.items()},
    )


def oldest_policy(config: ModelConfig) -> BatchingPolicy:
    """Read `sequence_batching.oldest` of a configuration; it has no queue policies."""
    return _sizes_and_shapes(config, config.proto.sequence_batching.oldest)


def _sizes_and_shapes(config: ModelConfig, batching: Any) -> BatchingPolicy:
    max_size = max(1, config.max_batch_size)
    ragged = frozenset(spec.name for spec in config.inputs.values() if spec.ragged)
    return BatchingPolicy(
        max_size=max_size,
        preferred_sizes=frozenset(batching.preferred_batch_size) or frozenset((max_size,)),
        max_delay_ns=batching.max_queue_delay_microseconds * 1000,
        compares_shapes=any(
            spec.optional or (-1 in spec.dims and spec.name not in ragged) for spec in config.inputs.values()
        ),
        ragged=ragged,
    )


def _queue_policy(policy: Any) -> QueuePolicy:
    return QueuePolicy(
        timeout_us=policy.default_timeout_microseconds,
        delays=policy.timeout_action == policy.DELAY,
        request_may_shorten=policy.allow_timeout_override,
        max_size=policy.max_queue_size,
    )
