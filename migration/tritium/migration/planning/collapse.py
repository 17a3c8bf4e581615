"""Several models that are one language model, made one: TensorRT-LLM's five-model layout on a single model's tensors.

    ensemble, tensorrt_llm_bls       their folders go away; aliases of the engine's model, with their tensors
    preprocessing, postprocessing    their folders go away: the model tokenizes itself
    tensorrt_llm                     stays, and gains 1/model.json: checkpoint, arguments, aliases

The code of preprocessing and postprocessing may do more than tokenize, so this is made for who asks for it. Until the
checkpoint is known it is only told.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritium.compat.config.defaults import ENSEMBLE
from tritium.migration.deployment import Deployment
from tritium.migration.finding import Severity
from tritium.migration.found import Found
from tritium.migration.launches.format import Format
from tritium.migration.planning.engine_build import built_with
from tritium.migration.planning.engine_parameters import Argument, Carried, Dropped, fates
from tritium.migration.planning.old_names import INPUTS, OUTPUTS, SURFACE, UNASKED
from tritium.migration.planning.plan import Change, NewFile, Note, Piece
from tritium.migration.planning.proposals import ENGINES
from tritium.migration.text.removal import without
from tritium.migration.text.source import Source, Span

RULE = "M03"
_ARGUMENTS = {"model.json", "model.yaml"}
"""Files of a version that say what is served."""


@dataclass(slots=True)
class Collapse:
    """What one group becomes, or why it does not."""

    engine: Found
    members: list[str]
    aliases: list[str] = field(default_factory=list)
    removed: list[Found] = field(default_factory=list)
    why_not: str = ""

    @property
    def about(self) -> str:
        """Return the engine's folder, by which its checkpoint is asked for."""
        return self.engine.place.parent.as_posix()


def collapses(deployment: Deployment) -> Iterator[Collapse]:
    """Yield what the groups around each engine of TensorRT-LLM become; several ensembles may stand around one."""
    members: dict[Path, list[Found]] = {}
    for group in deployment.groups:
        around = {model.name: model for model in deployment.models if _repository(model) == group.path}
        own = [around[name] for name in group.members if name in around]
        engines = [model for model in own if model.backend in ENGINES]
        if len(engines) == 1:
            known = members.setdefault(engines[0].place, [engines[0]])
            known += [model for model in own if model not in known]
    for engine, *others in members.values():
        around = {model.name: model for model in deployment.models if _repository(model) == _repository(engine)}
        yield _collapse(engine, others, list(around.values()))


def change_of(deployment: Deployment, one: Collapse, checkpoint: str) -> Change:
    """Make the change that leaves the engine's model alone, serving `checkpoint` under all names."""
    arguments = _arguments(deployment, one, checkpoint)
    engine = one.engine
    versions = list(engine.folder.chosen(engine.config.version_policy)) or ["1"]
    text = json.dumps(arguments, indent=2, ensure_ascii=False) + "\n"
    gone = [path for model in one.removed for path in _files(deployment.root, model.place.parent)]
    removed = ", ".join(model.name for model in one.removed)
    mapped = [f"{way.parameter} -> {way.argument}" for way in _ways(one) if isinstance(way, Carried)]
    carried = f" (carried over: {', '.join(mapped)})" if mapped else ""
    names = f", also under the names {', '.join(one.aliases)}" if one.aliases else ""
    message = f"{engine.name} serves {checkpoint}{names}; {removed} go away{carried}"
    creates = [NewFile((engine.place.parent / version / "model.json").as_posix(), text) for version in versions]
    pieces = list(_loads(deployment, one))
    return Change(RULE, str(engine.place), 0, message, safe=False, pieces=pieces, creates=creates, removes=gone)


def proposal(one: Collapse) -> Note:
    """Say what a group would become, or why it stays."""
    engine, members = one.engine, ", ".join(one.members)
    if one.why_not:
        message, advice = f"{members} stay as they are: {one.why_not}", "only the engine's checkpoint is served anew"
    else:
        names = ", ".join(one.aliases)
        message = f"{members} become one model {engine.name}, with {names} as names of it that keep their tensors"
        advice = f"answer checkpoint {one.about}, and ask for --unsafe={RULE}"
    return Note(RULE, Severity.TODO.value, str(engine.place), 0, message, advice)


def remarks(deployment: Deployment, one: Collapse) -> Iterator[Note]:
    """Yield what a collapse does not settle: parameters that are no argument, and who still uses what goes away."""
    for way in _ways(one):
        if isinstance(way, Dropped):
            message = f"{way.parameter} {way.value} is not carried over: {way.reason}"
            yield Note(RULE, Severity.INFO.value, str(one.engine.place), 0, message)
    names = [model.name for model in one.removed]
    for launch in deployment.launches:
        if launch.format in (Format.DOCUMENT, Format.NOTEBOOK):
            continue
        for name in names:
            if (at := launch.source.text.find(f"/{name}/")) >= 0:
                line = launch.source.place(at)[0]
                message, advice = f"names a file of {name}, which goes away", "take the line out"
                yield Note(RULE, Severity.TODO.value, str(launch.source.path), line, message, advice)
    called = [name for name in names if name not in one.aliases]
    for source in {call.source.path: call.source for call in deployment.calls}.values():
        for name in called:
            if (at := max(source.text.find(f'"{name}"'), source.text.find(f"'{name}'"))) >= 0:
                message = f"asks {name}, which goes away"
                advice = f"ask {one.engine.name} for text, or leave {RULE} out"
                yield Note(RULE, Severity.TODO.value, str(source.path), source.place(at)[0], message, advice)


def _collapse(engine: Found, others: Sequence[Found], around: Sequence[Found]) -> Collapse:
    ensembles = [model for model in others if model.backend == ENSEMBLE]
    steps = {name for ensemble in ensembles for name in ensemble.members}
    parts = [model for model in others if model.name in steps and model not in ensembles]
    texts = [model for model in others if model not in parts]
    fitting = [model for model in texts if not _misfit(model)]
    made = Collapse(engine, [engine.name, *(model.name for model in others)], [model.name for model in fitting])
    if (unread := next((m for m in (engine, *ensembles) if m.template or m.parsed.problems), None)) is not None:
        made.why_not = f"{unread.place} is filled in when it is deployed; plan over the filled-in repository"
    elif held := _ARGUMENTS & {name for version in engine.folder.versions.values() for name in version}:
        file = held.pop()
        made.why_not = f'{engine.name} serves a checkpoint already; name the others as "aliases" in its {file}'
    elif not any(model in fitting for model in ensembles):
        made.why_not = f"{ensembles[0].name} {_misfit(ensembles[0])}"
    elif (other := next((part for part in parts if part.backend != "python"), None)) is not None:
        made.why_not = f"{other.name} is more than tokenizing"
    staying = [model for model in around if model not in (*fitting, *parts, engine)]
    made.removed = [*fitting, *(part for part in parts if not any(_uses(model, part) for model in staying))]
    return made


def _misfit(model: Found) -> str:
    """Say which tensors of a model the server has not got under its old name; "" for none."""
    inputs, outputs = ({t.name for t in tensors} for tensors in (model.config.input, model.config.output))
    odd = sorted((inputs - INPUTS) | (outputs - OUTPUTS))
    if odd:
        return f"has tensors that no language model has here ({', '.join(odd[:6])})"
    return "" if "text_input" in inputs and "text_output" in outputs else "takes no text_input, or gives no text_output"


def _uses(model: Found, part: Found) -> bool:
    text = model.parsed.places.source.text
    code = (path.read_text(errors="replace") for path in model.folder.path.glob("*/*.py"))
    return any(f'"{part.name}"' in one or f"'{part.name}'" in one for one in (text, *code))


def _ways(one: Collapse) -> Iterator[Carried | Dropped]:
    """Yield what becomes of the parameters of the engine, and of the models that go away, each parameter once."""
    seen: dict[str, str] = {}
    for model in (one.engine, *one.removed):
        for key, value in sorted(model.config.parameters.items()):
            seen.setdefault(key, value.string_value)
    yield from fates(seen)


def _arguments(
    deployment: Deployment, one: Collapse, checkpoint: str
) -> Mapping[str, Argument | list[str] | dict[str, str]]:
    engine = one.engine
    arguments: dict[str, Argument | list[str] | dict[str, str]] = {"model": checkpoint}
    if engine.config.max_batch_size > 0:
        arguments["max_num_seqs"] = engine.config.max_batch_size
    arguments |= {way.argument: way.value for way in _ways(one) if isinstance(way, Carried)}
    arguments |= built_with(deployment, engine)
    plain = set(one.aliases) <= UNASKED
    arguments["aliases"] = one.aliases if plain else dict.fromkeys(one.aliases, SURFACE)
    return arguments


def _loads(deployment: Deployment, one: Collapse) -> Iterator[Piece]:
    """Have the engine's model loaded where one that goes away was: a name comes with the model it stands for."""
    gone, own = {model.name for model in one.removed}, one.engine.name
    for launch, command in deployment.commands():
        words = command.values("load-model")
        named = any(word.text == own for word in words)
        if launch.format in (Format.DOCUMENT, Format.NOTEBOOK):
            continue
        for word in words:
            if word.text not in gone:
                continue
            span = word.span(launch.source)
            if named:
                edit = without(launch.source, _with_flag(launch.source, span))
                yield Piece(str(edit.path), edit.span.start, edit.span.end, edit.new)
            else:
                yield Piece(str(launch.source.path), span.start, span.end, own)
            named = True


def _with_flag(source: Source, value: Span) -> Span:
    return Span(source.text.rindex("--load", 0, value.start), value.end)


def _files(root: Path, folder: Path) -> Iterator[str]:
    """Yield every file below a model's folder; links are files of their own."""
    for path in sorted((root / folder).rglob("*")):
        if path.is_symlink() or path.is_file():
            yield path.relative_to(root).as_posix()


def _repository(model: Found) -> Path | None:
    return None if model.repository is None else model.place.parent.parent
