"""An audit as a person reads it, in full: models, language models, launch files, and what was found of each."""

import textwrap
from collections.abc import Collection, Iterator, Sequence

from tritium.migration.finding import Audit, Finding, ModelReport, Severity, Verdict

_MARK = {
    Verdict.SERVES: "+",
    Verdict.CHANGE: "~",
    Verdict.CONVERT: "!",
    Verdict.UNKNOWN: "?",
    Verdict.UNSUPPORTED: "x",
    Verdict.BROKEN: "x",
}


_WIDTH = 110
_SHOWN_PLACES = 4
_GRAVITY = list(Severity)


def as_text(audits: Sequence[Audit]) -> str:
    """Write the reports one below the other; those of several folders under their names."""
    if len(audits) == 1:
        return _audit(audits[0])
    return "\n".join(f"# {audit.root}\n\n{_audit(audit)}" for audit in audits)


def _audit(audit: Audit) -> str:
    """Write one report: models, language models, launch files, then the sum; what is said of several is said once."""
    if not audit.is_deployment and not audit.others:
        return f"{audit.root}: no Triton deployment found (no model configuration, nothing that starts tritonserver).\n"
    return "\n".join(_lines(audit)) + "\n"


def _lines(audit: Audit) -> Iterator[str]:
    if audit.models:
        yield "Models"
        alike: dict[tuple[Verdict, str, str, str], list[ModelReport]] = {}
        for model in audit.models:
            alike.setdefault((model.verdict, model.kind, model.because, model.advice), []).append(model)
        for verdict in Verdict:
            for key, models in alike.items():
                if key[0] is verdict:
                    yield from _models(models)
        yield ""
    if audit.groups:
        yield "Language models"
        for group in audit.groups:
            yield from _wrapped(f"{group.path}  {group.rule}: {group.message}", "  ", "      ")
            yield from _wrapped(f"-> {group.advice}", "      ")
        yield ""
    if audit.launches:
        yield "Launch files"
        for launch in audit.launches:
            yield f"  {launch.path}  ({launch.kind})"
            for command in launch.commands:
                yield from _wrapped(command, "      $ ", "          ")
        yield from _findings([finding for launch in audit.launches for finding in launch.findings], "  ")
        yield ""
    if audit.others:
        yield "Dashboards, alerts, autoscalers, clients"
        yield from _findings(audit.others, "  ")
        yield ""
    yield from _wrapped(_summary(audit), "")


def _models(models: Sequence[ModelReport]) -> Iterator[str]:
    """Write the models that fare alike: what becomes of them, which they are, and what was found."""
    first = models[0]
    yield from _wrapped(f"{_MARK[first.verdict]} {first.kind}, {first.verdict}: {first.because}", "  ", "      ")
    if first.advice:
        yield from _wrapped(f"-> {first.advice}", "      ")
    width = max(len(model.name) for model in models)
    for model in models:
        yield f"        {model.name:{width}}  {model.path}"
        if model.evidence and not model.evidence.startswith("deployed"):
            yield from _wrapped(model.evidence, " " * (10 + width))
    yield from _findings([f for m in models for f in m.findings], "      ", {str(m.path) for m in models})


def _findings(findings: Sequence[Finding], indent: str, listed: Collection[str] = ()) -> Iterator[str]:
    """Write findings, the gravest first, each text once with the places it is meant for.

    Places are left out where they are just the files `listed` above; an advice stands after the last text it is for.
    """
    places: dict[tuple[int, str, str, str], list[str]] = {}
    for finding in findings:
        place = f"{finding.path}:{finding.line}:{finding.column}" if finding.line else str(finding.path)
        message = finding.message + (" (so on Triton too)" if finding.already else "")
        said = (-_GRAVITY.index(finding.severity), finding.rule, finding.advice, message)
        places.setdefault(said, []).append(place)
    ordered = sorted(places, key=lambda said: said[:3])
    for index, said in enumerate(ordered):
        gravity, rule, advice, message = said
        where = places[said]
        yield from _wrapped(f"{_GRAVITY[-gravity]} {rule}: {message}", indent, indent + "    ")
        if set(where) != listed:
            yield from (f"{indent}    at {place}" for place in where[:_SHOWN_PLACES])
        if len(where) > _SHOWN_PLACES and set(where) != listed:
            yield f"{indent}    and {len(where) - _SHOWN_PLACES} more"
        if advice and all(following[:3] != said[:3] for following in ordered[index + 1 : index + 2]):
            yield from _wrapped(f"-> {advice}", indent + "    ")


def _wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(audit: Audit) -> str:
    total = len(audit.models)
    parts = [f"{count} {verdict}" for verdict, count in audit.counts.items()]
    models = f"{_count(total, 'model')}: {', '.join(parts)}." if parts else "No models found."
    absent = sum(any(f.rule == "M22" for f in m.findings) for m in audit.models)
    if absent:
        models += f" The files of {absent} are not here, and were not checked."
    blocked = sum(any(f.severity is Severity.BLOCKER for f in launch.findings) for launch in audit.launches)
    launches = _count(len(audit.launches), "launch file") + (f", {blocked} with a blocker" if blocked else "")
    return f"{models} {launches}. Nothing was changed."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
