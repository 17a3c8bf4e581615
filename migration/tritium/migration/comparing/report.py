"""A verification as text, Markdown, JSON or CSV."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

from tritium.migration.comparing.latency import Latency
from tritium.migration.comparing.verdict import ModelVerdict, Standing, Verification
from tritium.migration.secrets import covered

_SHOWN = 10


def written(found: Verification, form: str) -> str:
    """Return the report in one of FORMATS; secrets in messages are covered."""
    return covered(FORMATS[form](found))


def line(model: ModelVerdict) -> str:
    """Say in a line how a model fared."""
    counts = [f"{model.answered} answers the same"] if model.standing is Standing.SAME else []
    if wrong := len(model.differences) + sum(bool(exchange.differences) for exchange in model.exchanges):
        counts.append(f"{wrong} of {len(model.exchanges)} requests and descriptions differ")
    if model.refused:
        counts.append(f"{model.refused} refused by the old server")
    if model.varying:
        counts.append(f"{model.varying} vary by themselves")
    if model.latency:
        counts.append(_times(model.latency))
    return f"{model.name}: {model.standing.value}" + (f" ({'; '.join(counts)})" if counts else "")


def _times(times: Latency) -> str:
    return (
        f"median {times.old_median_s * 1e3:.2f} -> {times.new_median_s * 1e3:.2f} ms ({times.ratio:.2f} times), "
        f"p99 {times.old_p99_s * 1e3:.2f} -> {times.new_p99_s * 1e3:.2f} ms of {times.requests} requests, one at a time"
    )


def _details(model: ModelVerdict) -> Iterator[str]:
    """Yield what differs and what is to be known, gravest first."""
    yield from model.differences
    wrong = [exchange for exchange in model.exchanges if exchange.differences]
    for exchange in wrong[:_SHOWN]:
        for message in exchange.differences:
            yield f"{exchange.call.about}: {message}"
    if len(wrong) > _SHOWN:
        yield f"and {len(wrong) - _SHOWN} more requests; --format json has all"


def _remarks(model: ModelVerdict) -> Iterator[str]:
    yield from model.remarks
    if varying := sorted({place for exchange in model.exchanges for place in exchange.varying}):
        yield f"not compared, the old server answers it differently each time: {', '.join(varying)}"
    if model.standing is Standing.UNPROVEN and model.exchanges:
        refusals = [exchange.old_error for exchange in model.exchanges if exchange.failed]
        said = f" (the old server said: {refusals[0]})" if refusals else ""
        yield f"no request was answered that can be compared{said}: record real ones with dynamo-migrate record"


def _text(found: Verification) -> str:
    lines = [f"{found.old} -> {found.new}"]
    for model in found.models:
        lines.append(line(model))
        lines += [f"  differs  {detail}" for detail in _details(model)]
        lines += [f"  note     {remark}" for remark in _remarks(model)]
    return "\n".join((*lines, _summary(found))) + "\n"


def _summary(found: Verification) -> str:
    counts = ((kind, sum(model.standing is kind for model in found.models)) for kind in Standing)
    return f"{len(found.models)} model{'s' * (len(found.models) != 1)}: " + ", ".join(
        f"{count} {kind.value}" for kind, count in counts
    )


def _markdown(found: Verification) -> str:
    lines = ["# Old and new server", "", f"`{found.old}` and `{found.new}`. {_summary(found)}.", ""]
    lines += [
        "| model | is | answered | differ | refused | vary | median, old | median, new | ratio | p99, old | p99, new |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in _rows(found):
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row.values()) + " |")
    for model in found.models:
        if details := [*(f"- [ ] {one}" for one in _details(model)), *(f"- {one}" for one in _remarks(model))]:
            lines += ["", f"## {model.name}", "", *(one.replace("<", "&lt;") for one in details)]
    return "\n".join(lines) + "\n"


def _rows(found: Verification) -> Iterator[dict[str, Any]]:
    for model in found.models:
        times = model.latency
        yield {
            "model": model.name,
            "is": model.standing.value,
            "answered": model.answered,
            "differ": len(model.differences) + sum(bool(exchange.differences) for exchange in model.exchanges),
            "refused": model.refused,
            "vary": model.varying,
            "old_median_ms": round(times.old_median_s * 1e3, 3) if times else "",
            "new_median_ms": round(times.new_median_s * 1e3, 3) if times else "",
            "ratio": round(times.ratio, 3) if times else "",
            "old_p99_ms": round(times.old_p99_s * 1e3, 3) if times else "",
            "new_p99_ms": round(times.new_p99_s * 1e3, 3) if times else "",
        }


def _json(found: Verification) -> str:
    models = []
    for model, row in zip(found.models, _rows(found), strict=True):
        calls = [
            {
                "about": exchange.call.about,
                "differences": list(exchange.differences),
                "varying": list(exchange.varying),
                "old_error": exchange.old_error,
            }
            for exchange in model.exchanges
        ]
        numbers = {key: None if value == "" else value for key, value in row.items()}
        models.append({
            **numbers, "differences": list(model.differences), "remarks": list(_remarks(model)), "requests": calls,
        })  # fmt: skip
    document = {"old": found.old, "new": found.new, "same": found.same, "models": models}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _csv(found: Verification) -> str:
    text = io.StringIO()
    rows = list(_rows(found))
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["model"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


FORMATS: dict[str, Callable[[Verification], str]] = {
    "text": _text,
    "markdown": _markdown,
    "json": _json,
    "csv": _csv,
}
