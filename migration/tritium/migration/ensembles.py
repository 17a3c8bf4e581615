"""Ensembles against the models they are made of: that these are there, fit together, and are served themselves."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tritium.compat.config import messages
from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.ensemble import check_members, cycle_through
from tritium.compat.config.finding import Finding as Broken
from tritium.compat.config.problem import Problem
from tritium.migration.finding import Severity, Verdict
from tritium.migration.found import Found
from tritium.migration.models import report


def check_ensembles(models: Sequence[Found]) -> None:
    """Add what is wrong with each ensemble to its findings; one that lies outside a repository is passed over."""
    repositories: dict[Path, dict[str, Found]] = {}
    for model in models:
        if model.repository is not None:
            repositories.setdefault(model.repository, {}).setdefault(model.name, model)
    checked: set[int] = set()
    for model in models:
        if model.repository is not None:
            _check(model, repositories[model.repository], models, checked)


def _check(found: Found, known: Mapping[str, Found], everywhere: Sequence[Found], checked: set[int]) -> None:
    """Check one ensemble, those among its members first: their fate is its own."""
    if id(found) in checked or found.backend != ENSEMBLE:
        return
    checked.add(id(found))
    for name in found.members:
        if name in known:
            _check(known[name], known, everywhere, checked)
    if not found.sound:
        return
    missing = [name for name in found.members if name not in known]
    for name in missing:
        _missing(found, name, known, everywhere)
    if not missing and (last := cycle_through(found.name, lambda name: known[name].members if name in known else ())):
        found.refuse("M08", messages.circular(found.name, last), "take one of the steps out")
    if missing or not found.sound:
        return
    members = {name: known[name] for name in found.members}
    if all(m.sound and m.config.input and m.config.output for m in members.values()):
        for broken in check_members(found.config, {name: m.config for name, m in members.items()}):
            at = found.parsed.places.problem(broken)
            found.refuse("M08", at.message, at.hint, at)
    for name, member in members.items():
        _depend(found, name, member)


def _missing(found: Found, name: str, known: Mapping[str, Found], everywhere: Sequence[Found]) -> None:
    message = f"step '{name}' is no model of this repository"
    elsewhere = next((m.place for m in everywhere if m.name == name and m.repository is not None), None)
    near = difflib.get_close_matches(name, known, n=1)
    at = _step(found, name)
    if elsewhere is not None:
        advice = f"it is at {elsewhere}: give --model-repository for both, or put them together"
        found.add("M08", Severity.TODO, message, advice, at)
    else:
        advice = (
            f"did you mean {near[0]}?" if near else "put the model beside it; audit the repository that is deployed"
        )
        found.refuse("M08", message, advice, at)


def _depend(found: Found, name: str, member: Found) -> None:
    """Say what a member's fate means for the ensemble."""
    settled = report(member)
    at = _step(found, name)
    if settled.verdict is Verdict.BROKEN:
        found.refuse("M08", f"step '{name}' is a model that does not load", "mend that model first", at)
    elif settled.verdict is not Verdict.SERVES:
        found.add("M08", Severity.TODO, f"step '{name}' {_FATES[settled.verdict]}", f"see {member.place}", at)


_FATES = {
    Verdict.CHANGE: "serves after a change",
    Verdict.CONVERT: "must be converted",
    Verdict.UNKNOWN: "cannot be told",
    Verdict.UNSUPPORTED: "is not served",
}


def _step(found: Found, name: str) -> Problem:
    steps = found.config.ensemble_scheduling.step
    index = next(i for i, step in enumerate(steps) if step.model_name == name)
    return found.parsed.places.problem(Broken(("ensemble_scheduling", "step", index, "model_name"), ""))
