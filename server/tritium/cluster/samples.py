"""What a fleet reports of itself to metrics."""

from collections.abc import Mapping

from tritium.cluster.fleet import OwnSample
from tritium.cluster.flights import Flights
from tritium.cluster.pool import WorkerPool
from tritium.cluster.prefill import PrefillDesk
from tritium.router.admission import Refusal

Sample = tuple[str, dict[str, str], float]


FLEET_HELP: Mapping[str, str] = {
    "tritium_fleet_requests_total": "Generations asked of a language model's fleet",
    "tritium_fleet_active_requests": "Generations under way or held",
    "tritium_fleet_held_requests_total": "Generations that waited for a worker to be ready",
    "tritium_fleet_moved_requests_total": "Generations moved to another worker because theirs was lost",
    "tritium_fleet_continued_requests_total": "Generations moved in mid-stream, and continued from their tokens",
    "tritium_fleet_overdue_requests_total": "Generations given up because a live worker did not get on with them",
    "tritium_fleet_lost_requests_total": "Generations failed because their worker was lost",
    "tritium_fleet_remote_prefills_total": "Prompts computed by a prefill worker for a decode worker",
    "tritium_fleet_prefill_fallbacks_total": "Prompts computed where they decode because remote prefill failed",
    "tritium_fleet_role_changes_total": "Changes of workers' roles asked for here, by what came of them",
    "tritium_prefill_decisions_total": "Where prompts of disaggregated fleets were to be computed, by reason",
    "tritium_transfer_moved_tokens_total": "Prompt tokens whose KV moved to the worker that decodes",
    "tritium_transfer_checked_bytes_per_second": "How fast KV moved when that was tried before a worker was ready",
    "tritium_transfer_base_seconds": "What a transfer of KV is learnt to take before the first token moves",
    "tritium_transfer_learnt_bytes_per_second": "How fast KV is learnt to move, beyond what every transfer takes",
    "tritium_transfer_token_seconds": "What a transfer of KV is learnt to take for each token",
    "tritium_fleet_waiting_requests": "Requests that wait because every worker is full",
    "tritium_fleet_refused_requests_total": "Requests refused because no worker could take them",
    "tritium_prompt_tokens_total": "Prompt tokens of generations that began",
    "tritium_cached_tokens_total": "Prompt tokens that no worker had to compute",
    "tritium_output_tokens_total": "Tokens of generations that ended",
    "tritium_router_prompt_blocks_total": "Blocks of routed prompts",
    "tritium_router_overlap_blocks_total": "Blocks of routed prompts that the chosen worker already held",
    "tritium_router_index_blocks": "Blocks the router knows of",
    "tritium_router_dropped_blocks_total": "Blocks the router let go because its index or a worker's share was full",
    "tritium_router_worker_active": "Generations routed to a worker and not finished",
    "tritium_router_worker_elsewhere": "Of these, the generations that other fronts have sent",
    "tritium_router_worker_prefill_blocks": "Prompt blocks routed to a worker and not yet computed",
    "tritium_router_worker_decode_blocks": "Blocks of the sequences a worker is decoding",
    "tritium_router_worker_held_blocks": "Blocks a worker holds, as its events tell",
    "tritium_worker_ready": "1 while a worker takes requests, else 0",
    "tritium_worker_restarts_total": "How often a worker was started again",
    "tritium_workers": "Workers of a model that discovery found, by state; refused ones serve another model",
    "tritium_worker_reconnects_total": "How often connections to the workers there are were made again",
    "tritium_worker_hung_total": "How often a worker was given up because it, or its engine, did nothing any more",
    "tritium_worker_canaries_total": "How often an idle worker was asked for a token to see if it still makes any",
    "tritium_engine_info": "1, labelled with a worker's engine and its version",
    "tritium_engine_running": "Sequences in an engine's batch",
    "tritium_engine_waiting": "Sequences that wait for an engine's batch",
    "tritium_engine_steps_total": "Engine steps (embedded, mocker)",
    "tritium_engine_prompt_tokens_total": "Prompt tokens an engine was given",
    "tritium_engine_cached_prompt_tokens_total": "Prompt tokens found in an engine's prefix cache",
    "tritium_engine_output_tokens_total": "Tokens an engine generated",
    "tritium_engine_preemptions_total": "Sequences sent back to wait for lack of blocks",
    "tritium_engine_kv_used_blocks": "Blocks of the KV cache in use",
    "tritium_engine_kv_total_blocks": "Blocks of the KV cache",
    "tritium_kv_received_bytes_total": "Bytes of KV received from other workers",
    "tritium_kv_received_blocks_total": "Blocks of KV received from other workers",
    "tritium_kv_pulls_total": "Transfers of KV begun",
    "tritium_kv_pull_failures_total": "Transfers of KV that failed; the prompt was computed instead",
    "tritium_kv_pull_seconds_total": "Time transfers of KV took (vllm, mocker)",
    "tritium_kv_exports_total": "Prompts whose KV was kept for another worker (embedded)",
    "tritium_kv_exports_expired_total": "Prompts kept for another worker that none came for (embedded)",
    "tritium_kv_exports_held": "Prompts whose KV is kept for another worker now (embedded)",
    "tritium_kv_events_lost_total": "KV events that the engine's worker never got (vllm, sglang, tensorrtllm)",
    "tritium_kv_events_replayed_total": "KV events that the engine's worker got at the second attempt (vllm, sglang)",
    "tritium_kv_orphan_blocks_total": "Stored blocks whose parent the worker did not know",
    "tritium_cache_changes_lost_total": "Changes of a worker's cache that did not reach this server",
    "tritium_cache_strange_blocks_total": "Blocks that a worker told of in tiers that this release does not know",
    "tritium_cache_dumps_total": "Times the whole of a worker's cache was read, at its start and after losses",
    "tritium_cache_behind": "1 while changes of a worker's cache are missing, else 0",
    "tritium_worker_events_connected": "1 while a worker reaches its NATS server, else 0",
    "tritium_worker_events_published_total": "Changes of its cache that a worker told by NATS",
    "tritium_worker_events_dropped_total": "Changes that a worker did not keep until NATS was there again",
}

DISCOVERY_HELP: Mapping[str, str] = {
    "tritium_discovery_connected": "1 while what carries the workers' announcements answers, else 0",
    "tritium_discovery_age_seconds": "Time since it last answered; the view of the workers is that old at most",
    "tritium_discovery_reconnects_total": "How often it was reached again after it did not answer",
    "tritium_discovery_unreadable_total": "Announcements that could not be read",
    "tritium_events_connected": "1 while the NATS server that tells of caches answers, else 0",
    "tritium_events_outages_total": "How often the NATS server was lost",
    "tritium_events_received_total": "Changes of caches that came by NATS",
    "tritium_events_unreadable_total": "Messages of NATS that could not be read",
}


def fleet_samples(name: str, flights: Flights, pool: WorkerPool) -> list[Sample]:
    """Return the samples of a model's fleet, its routers and its workers' engines."""
    model = {"model": name}
    counters = flights.counters
    samples: list[Sample] = [
        ("tritium_fleet_requests_total", model, counters.requests),
        ("tritium_fleet_active_requests", model, len(flights)),
        ("tritium_fleet_held_requests_total", model, flights.held.total),
        ("tritium_fleet_moved_requests_total", model, counters.moved),
        ("tritium_fleet_continued_requests_total", model, counters.continued),
        ("tritium_fleet_overdue_requests_total", model, counters.overdue),
        ("tritium_fleet_lost_requests_total", model, counters.lost),
        ("tritium_fleet_remote_prefills_total", model, counters.remote_prefills),
        ("tritium_fleet_prefill_fallbacks_total", model, counters.prefill_fallbacks),
        ("tritium_prompt_tokens_total", model, counters.prompt_tokens),
        ("tritium_cached_tokens_total", model, counters.cached_tokens),
        ("tritium_output_tokens_total", model, counters.output_tokens),
        ("tritium_router_prompt_blocks_total", model, counters.prompt_blocks),
        ("tritium_router_overlap_blocks_total", model, counters.overlap_blocks),
    ]
    samples += [
        ("tritium_fleet_waiting_requests", model | {"tenant": tenant}, count)
        for tenant, count in flights.waiting.tenants().items()
    ]
    samples += [
        ("tritium_fleet_refused_requests_total", model | {"reason": reason.value}, flights.waiting.refused[reason])
        for reason in Refusal
    ]
    received = sum(worker.gauges.get("tritium_kv_received_bytes_total", 0.0) for worker in pool.by_name.values())
    samples += prefill_samples(model, pool.prefill, received)
    for role, router in pool.routers.items():
        labels = model | {"role": role.value}
        samples.append(("tritium_router_index_blocks", labels, len(router.index)))
        samples.append(("tritium_router_dropped_blocks_total", labels, router.index.dropped))
        for load in router.loads:
            routed = labels | {"worker": load.name}
            samples.append(("tritium_router_worker_active", routed, load.active))
            samples.append(("tritium_router_worker_prefill_blocks", routed, load.prefill_blocks))
            samples.append(("tritium_router_worker_decode_blocks", routed, load.decode_blocks))
            samples.append(("tritium_router_worker_held_blocks", routed, router.index.held_by(load.number)))
    for worker in pool.by_name.values():
        labels = model | {"role": worker.role.value, "worker": worker.name}
        samples.append(("tritium_worker_ready", labels, float(worker.ready)))
        samples.append(("tritium_worker_restarts_total", labels, worker.restarts))
        samples.append(("tritium_worker_hung_total", labels, worker.hung))
        if worker.info is not None:
            if worker.info.transfer_path:
                way = {"transport": worker.info.transfer, "path": worker.info.transfer_path}
                checked = "tritium_transfer_checked_bytes_per_second"
                samples.append((checked, labels | way, worker.info.transfer_bytes_s))
            of_engine = {"engine": worker.info.engine, "version": worker.info.version}
            samples.append(("tritium_engine_info", labels | of_engine, 1.0))
        if (others := pool.elsewhere.get(worker.name)) is not None:
            samples.append(("tritium_router_worker_elsewhere", labels, len(others)))
        if (follower := pool.followers.get(worker.name)) is not None:
            samples.append(("tritium_cache_changes_lost_total", labels, follower.lost))
            samples.append(("tritium_cache_strange_blocks_total", labels, follower.strange))
            samples.append(("tritium_cache_dumps_total", labels, follower.healed))
            samples.append(("tritium_cache_behind", labels, float(follower.behind)))
        samples.extend((gauge, labels, value) for gauge, value in worker.gauges.items())
    return samples


def prefill_samples(model: dict[str, str], desk: PrefillDesk, received_bytes: float) -> list[Sample]:
    """Return what was decided of prompts and what their transfers cost; nothing in aggregated fleets.

    `received_bytes` is what the engines count of KV that came, which tells how large a token's is.
    """
    samples: list[Sample] = [
        ("tritium_prefill_decisions_total", model | {"where": where, "reason": reason.value}, count)
        for (where, reason), count in desk.decisions.items()
    ]
    if desk.moved_tokens:
        samples.append(("tritium_transfer_moved_tokens_total", model, desk.moved_tokens))
    if (transfer := desk.transfer) is not None:
        samples.append(("tritium_transfer_base_seconds", model, transfer.base_s))
        samples.append(("tritium_transfer_token_seconds", model, transfer.slope_s))
        if transfer.slope_s and received_bytes:
            bytes_s = received_bytes / desk.moved_tokens / transfer.slope_s
            samples.append(("tritium_transfer_learnt_bytes_per_second", model, bytes_s))
    return samples


def own_samples(name: str, pool: WorkerPool) -> list[OwnSample]:
    """Return what the workers' engines measure themselves, under their own names and with the worker's labels.

    `model_name`, by which vLLM's dashboards choose, is the model's name here.
    """
    return [
        OwnSample(
            family.name,
            value.suffix,
            family.kind,
            family.help,
            value.labels | {"model_name": name, "role": worker.role.value, "worker": worker.name},
            value.value,
        )
        for worker in pool.by_name.values()
        for family in worker.own_metrics
        for value in family.values
    ]
