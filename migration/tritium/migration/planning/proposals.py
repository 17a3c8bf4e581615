"""Changes that nobody needs and some want: more workers for a language model, prefill and decode apart.

A worker group is written as the parameter `fleet` of a model's config.pbtxt. All of these are unsafe: they are made
for who asks, and shown to everybody with their reasons.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tritium.migration.deployment import Deployment, Launch
from tritium.migration.finding import Finding
from tritium.migration.found import Found
from tritium.migration.planning.engine_build import built_with
from tritium.migration.planning.outlook import Outlook, not_asked, outlook
from tritium.migration.planning.plan import Change, Piece
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.source import Span
from tritium.migration.text.tree import Mapping, documents

FLEET = "FLEET"
"""What such a change is called where rules have their ids."""
ENGINES = {"tensorrtllm", "tensorrt_llm"}
"""Backends of compiled engines of TensorRT-LLM."""
_LANGUAGE = {"vllm", *ENGINES}


def change_of(finding: Finding, fix: Fix, message: str = "") -> Change:
    """Make a change of a finding's fix."""
    pieces = [Piece(str(edit.path), edit.span.start, edit.span.end, edit.new) for edit in fix.edits]
    return Change(finding.rule, str(finding.path), finding.line, message or finding.message, fix.safe, pieces)


@dataclass(slots=True)
class Fleets:
    """The groups of workers that are proposed, and why other models stay one worker that prefills and decodes."""

    changes: list[Change] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def fleets(deployment: Deployment) -> Fleets:
    """Propose a group of workers for each language model that has more GPUs than one worker takes."""
    found = Fleets()
    for model, gpus in _language_models(deployment):
        each = _gpus_of_a_worker(deployment, model)
        if 0 < gpus < 2 * each:
            have = f"{gpus} GPU{'s' * (gpus > 1)}"
            why = f"there are {have}, of which it takes {each}"
            found.kept.append(f"{model.name} stays one worker that prefills and decodes: {why}")
        elif gpus and "fleet" not in model.config.parameters:
            seen = outlook(deployment.root / model.place.parent, gpus, each)
            if seen is not None and not seen.is_worth_it:
                found.kept.append(f"{model.name}: prefill and decode stay together, apart gains little; {seen.said}")
            else:
                found.changes += _split(deployment, model, gpus, each, seen)
    return found


def _split(deployment: Deployment, model: Found, gpus: int, each: int, seen: Outlook | None) -> Iterator[Change]:
    prefills, decodes = 1, gpus // each - 1
    if seen is not None and seen.layout is not None:
        prefills, decodes = seen.layout.prefill_workers, seen.layout.workers
    told = seen.said if seen is not None else not_asked()
    held = f"{gpus} GPUs are given to the server, a worker takes {each}"
    reason = "; ".join(part for part in (f"{held}: {_SPLIT}", told) if part)
    yield from _fleet(deployment, model, f"prefill={prefills},decode={decodes}", reason)


_SPLIT = (
    "prompts are computed by a worker of their own, so that long ones do not hold up the tokens of others; where "
    "prompts are short, workers=N is the better group (measure both: docs/fleet.md)"
)


def _language_models(deployment: Deployment) -> Iterator[tuple[Found, int]]:
    """Yield each language model that is alone in its repository, with the GPUs of the container that serves it.

    GPUs that several models share are nobody's to give away.
    """
    models = [model for model in deployment.models if model.backend in _LANGUAGE and model.repository is not None]
    for model in models:
        home = model.repository
        if home is None or sum(other.repository == home for other in models) > 1:
            continue
        gpus = [
            container.gpus or 0
            for launch in deployment.launches
            if len({other.repository for other in models}) == 1 or home.name in _served(launch)
            for container in launch.containers
        ]
        yield model, max(gpus, default=0)


def _served(launch: Launch) -> set[str]:
    """Return the names of the folders that a file's commands serve."""
    words = (word for command in launch.commands for word in command.values("model-repository", "model-store"))
    return {PurePosixPath(word.text).name for word in words}


def _fleet(deployment: Deployment, model: Found, setting: str, reason: str) -> Iterator[Change]:
    source = deployment.sources.get(model.place)
    if source is None or not model.sound:
        return
    end, newline = len(source.text), "\r\n" if "\r\n" in source.text else "\n"
    begun = "" if source.text.endswith("\n") or not source.text else newline
    text = f'{begun}parameters {{ key: "fleet" value {{ string_value: "{setting}" }} }}{newline}'
    edit = Edit(source.path, Span(end, end), text)
    piece = Piece(str(edit.path), edit.span.start, edit.span.end, edit.new)
    yield Change(FLEET, str(model.place), 0, f"{model.name} as {setting}: {reason}", safe=False, pieces=[piece])


def _gpus_of_a_worker(deployment: Deployment, model: Found) -> int:
    """Return how many GPUs an engine of a model takes, by its model.json or its ranks; 1 where nothing says."""
    count = 1
    for source in deployment.files_of(model, "model.json"):
        for tree in documents(source):
            for way in ("tensor_parallel_size", "pipeline_parallel_size"):
                if isinstance(tree, Mapping) and tree.text(way).isdigit():
                    count *= max(1, int(tree.text(way)))
    if count == 1 and model.backend in ENGINES:
        built = built_with(deployment, model)
        count = built.get("tensor_parallel_size", 1) * built.get("pipeline_parallel_size", 1)
    return count
