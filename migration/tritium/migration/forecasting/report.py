"""A forecast as text, Markdown or JSON, with everything that was assumed."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from tritium.migration.forecasting import forecast as rules
from tritium.migration.forecasting.aiconfigurator import Opinion
from tritium.migration.forecasting.forecast import Forecast, Layout
from tritium.migration.forecasting.machine import GB
from tritium.migration.forecasting.usage import Usage


def written(found: Forecast, usage: Usage | None, other: Opinion | None, told: tuple[str, ...], form: str) -> str:
    """Return the report; `other` is aiconfigurator's opinion, where it is installed, `told` where the load is from."""
    if form == "json":
        document = asdict(found) | {
            "advice": found.advice,
            "usage": asdict(usage) if usage else None,
            "assumptions": [*told, *_assumptions(found)],
        }
        if other is not None:
            document |= {"aiconfigurator": asdict(other)}
        return json.dumps(document, indent=2) + "\n"
    sections = {
        "Size": list(_size(found)),
        "Now": list(_usage(usage)) if usage else [],
        "GPUs": [*_layouts(found), found.advice],
        "aiconfigurator": [other.said] if other else [],
        "Assumed": [*told, *_assumptions(found)],
    }
    if form == "markdown":
        parts = [
            f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) for title, lines in sections.items() if lines
        ]
        return f"# Forecast for {found.size.name}\n\n" + "\n\n".join(parts) + "\n"
    parts = [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items() if lines]
    return "\n".join(parts) + "\n"


def _size(found: Forecast) -> Iterator[str]:
    size = found.size
    active = f", {size.active / 1e9:.3g} billion active" if size.active != size.parameters else ""
    yield f"{size.parameters / 1e9:.3g} billion parameters{active}, {size.weight_bytes / GB:.3g} GB of weights"
    yield f"{found.kv_bytes_token / 1e3:.1f} kB of cache a token"
    if found.aggregated:
        gpus = found.aggregated.gpus_each
        yield (
            f"{gpus} x {found.gpu.name} hold the weights ({size.weight_bytes / gpus / GB:.3g} GB each)"
            f" and {found.room_tokens} tokens of cache"
            f" ({found.room_tokens // (found.load.prompt_tokens + found.load.answer_tokens)} such requests)"
        )


def _usage(usage: Usage) -> Iterator[str]:
    yield f"{usage.rate:.2f} requests a second in {usage.seconds:.0f} s, {usage.concurrency:.1f} at a time"
    yield f"{usage.mean_s * 1e3:.1f} ms each, {usage.queue_share:.0%} of it in the queue"


def _layouts(found: Forecast) -> Iterator[str]:
    for title, layout in (("aggregated", found.aggregated), ("prefill and decode apart", found.apart)):
        yield f"{title}: {_layout(layout, found) if layout else 'no number of GPUs keeps the times'}"


def _layout(layout: Layout, found: Forecast) -> str:
    workers = f"{layout.workers} worker{'s' * (layout.workers > 1)}"
    if layout.prefill_workers:
        workers = f"{layout.prefill_workers} prefill and {layout.workers} decode workers"
    return (
        f"{layout.gpus} x {found.gpu.name} ({workers} of {layout.gpus_each}),"
        f" first token {layout.first_token_s * 1e3:.0f} ms,"
        f" then {layout.between_tokens_s * 1e3:.1f} ms a token, longest gap {layout.longest_gap_s * 1e3:.0f} ms,"
        f" {layout.requests:.1f} requests at a time in a worker"
    )


def _assumptions(found: Forecast) -> Iterator[str]:
    load = found.load
    yield f"prompts of {load.prompt_tokens} tokens, answers of {load.answer_tokens}, nothing of them cached"
    yield f"first token within {load.first_token_s:g} s, then one each {load.between_tokens_s * 1e3:g} ms"
    yield (
        f"{rules.ARITHMETIC_SHARE:.0%} of the GPU's arithmetic in prefill, {rules.BANDWIDTH_SHARE:.0%} of its memory"
        " bandwidth in decoding,"
        f" {rules.MEMORY_SHARE:.0%} of its memory less {rules.WORKING_BYTES / GB:g} GB to work in"
    )
    yield f"at most {rules.MOST_REQUESTS} requests in a worker, prompts in chunks of {rules.CHUNK_TOKENS} tokens"
    yield f"cache moves at {rules.LINK_BYTES_S / GB:g} GB a second; all experts of a mixture are read in each step"
    yield "formulas and their sources: docs/migration/forecast.md; a bench on the real machine decides"
