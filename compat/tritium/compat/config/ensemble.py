"""The rules of ensembles: their graph of tensors within the file, and its agreement with the member models.

Source: ValidateEnsembleSchedulingConfig in core/src/model_config_utils.cc and ValidateEnsembleConfig in
core/src/ensemble_scheduler/ensemble_utils.cc.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritium.compat.config.finding import Finding, Path
from tritium.compat.config.problem import Stage
from tritium.compat.datatypes import BY_CONFIG_VALUE

_STEP: Path = ("ensemble_scheduling", "step")


@dataclass(slots=True)
class _Tensor:
    """A tensor that flows between steps: the tensors it is made from, and whether any step reads it."""

    where: Path
    sources: list[str] = field(default_factory=list)
    written: bool = False
    read: bool = False
    ready: bool = False


def check_graph(config: Any) -> Iterator[Finding]:
    """Find what is wrong with an ensemble by its own file."""
    name = config.name
    if config.instance_group:
        yield Finding(("instance_group",), f"instance group should not be specified for ensemble '{name}'")
    if config.HasField("optimization"):
        yield Finding(("optimization",), f"optimization should not be specified for ensemble '{name}'")
    if config.model_warmup:
        yield Finding(("model_warmup",), f"model_warmup can not be specified for ensemble '{name}'")
    if not config.ensemble_scheduling.step:
        yield Finding(("ensemble_scheduling",), f"must specify 'step' for ensemble '{name}'")
        return
    tensors: dict[str, _Tensor] = {}
    broken = list(_link(config, tensors))
    yield from broken
    if not broken:
        yield from _flow(config, tensors)


def _link(config: Any, tensors: dict[str, _Tensor]) -> Iterator[Finding]:
    for index, step in enumerate(config.ensemble_scheduling.step):
        where: Path = (*_STEP, index)
        for needed in ("model_name", "input_map", "output_map"):
            if not getattr(step, needed):
                message = f"must specify '{needed}' in step {index} of ensemble '{config.name}'"
                yield Finding(where, message)
        for output in sorted(step.output_map):
            at = (*where, "output_map", output)
            tensor = tensors.setdefault(step.output_map[output], _Tensor(at))
            if tensor.written:
                yield Finding(
                    at,
                    f"ensemble tensor '{step.output_map[output]}' can appear in an output map only once for ensemble "
                    f"'{config.name}' step {index}",
                )
            tensor.written = True
            tensor.sources += step.input_map.values()
        for key in sorted(step.input_map):
            tensors.setdefault(step.input_map[key], _Tensor((*where, "input_map", key))).read = True


def _flow(config: Any, tensors: dict[str, _Tensor]) -> Iterator[Finding]:
    name = config.name
    for index, tensor in enumerate(config.input):
        if tensor.name in tensors:
            tensors[tensor.name].ready = True
        else:
            # The unpaired quotation mark is Triton's.
            message = f"ensemble input '{tensor.name}' for ensemble {name}' is not used"
            yield Finding(("input", index), message, "map it to a model's input in input_map, or delete it")
    moved = True
    while moved:
        moved = False
        for node in tensors.values():
            if not node.ready and node.written and all(tensors[source].ready for source in node.sources):
                node.ready = moved = True
    outputs = set()
    for index, tensor in enumerate(config.output):
        outputs.add(tensor.name)
        if tensor.name not in tensors:
            message = f"ensemble output '{tensor.name}' for ensemble {name}' is not used"
            yield Finding(("output", index), message, "name it as a value of an output_map, or delete it")
        elif not tensors[tensor.name].ready:
            missing = _missing(tensor.name, tensors)
            message = f"output '{tensor.name}' for ensemble '{name}' is not written"
            if missing != tensor.name:
                message += f": at least one of its depending tensors, '{missing}', is not connected"
            yield Finding(("output", index), message)
    for key, node in tensors.items():
        if key not in outputs and (not node.ready or not node.read):
            made = "no step writes it" if not node.written and not node.ready else "no step reads it"
            yield Finding(node.where, f"ensemble tensor '{key}' is unused in ensemble '{name}'", made)


def _missing(output: str, tensors: Mapping[str, _Tensor]) -> str:
    """Follow the sources that are not ready, to the first one that nothing leads to."""
    last, seen = output, set[str]()
    while True:
        waiting = [s for s in tensors[last].sources if not tensors[s].ready and s not in seen]
        if not waiting:
            return last
        last = waiting[0]
        seen.add(last)


@dataclass(frozen=True, slots=True)
class _Port:
    """A tensor as one model declares it."""

    model: str
    datatype: int
    dims: tuple[int, ...]
    full_dims: tuple[int, ...]


def _port(model: str, tensor: Any, *, batches: bool, reshaped: bool = False) -> _Port:
    dims = tuple(tensor.reshape.shape if reshaped and tensor.HasField("reshape") else tensor.dims)
    return _Port(model, tensor.data_type, dims, (-1, *dims) if batches else dims)


def check_members(config: Any, members: Mapping[str, Any]) -> Iterator[Finding]:
    """Find where an ensemble and the completed configurations of its members disagree; then set `decoupled`.

    An ensemble is decoupled when any of its members is.
    """
    name = config.name
    batches = config.max_batch_size > 0
    known = {t.name: _port(name, t, batches=batches, reshaped=True) for t in (*config.input, *config.output)}
    for index, step in enumerate(config.ensemble_scheduling.step):
        member = members[step.model_name]
        where: Path = (*_STEP, index)
        if 0 < member.max_batch_size < config.max_batch_size:
            yield Finding(
                ("max_batch_size",),
                f"ensemble {name} allows maximum batch size {config.max_batch_size}, but it contains model "
                f"{step.model_name} which only allows maximum batch size to be {member.max_batch_size}",
                stage=Stage.GRAPH,
            )
        yield from _step(config, step, member, where, known)
    decoupled = any(members[s.model_name].model_transaction_policy.decoupled for s in config.ensemble_scheduling.step)
    config.model_transaction_policy.decoupled = decoupled


def _step(config: Any, step: Any, member: Any, where: Path, known: dict[str, _Port]) -> Iterator[Finding]:
    said = f"in ensemble {config.name}, "
    model = step.model_name
    inputs = {t.name: t for t in member.input}
    outputs = {t.name: t for t in member.output}
    for key in sorted(step.input_map):
        if key not in inputs:
            message = (
                f"{said}ensemble tensor {step.input_map[key]} is mapping to non-existing input {key} in model {model}"
            )
            yield Finding((*where, "input_map", key), message, _choices(inputs), Stage.GRAPH)
    for key, tensor in inputs.items():
        if key in step.input_map:
            at = (*where, "input_map", key)
            yield from _agree(
                said, step.input_map[key], _port(model, tensor, batches=member.max_batch_size > 0), known, at
            )
        elif not tensor.optional:
            message = f"{said}input {key} in model {model} is not mapped to any ensemble tensors"
            yield Finding(where, message, f'add input_map {{ key: "{key}" value: "TENSOR" }}', Stage.GRAPH)
    for key in sorted(step.output_map):
        at = (*where, "output_map", key)
        if key not in outputs:
            message = (
                f"ensemble tensor {step.output_map[key]} is mapped from non-existing output {key} in model {model}"
            )
            yield Finding(at, said + message, _choices(outputs), Stage.GRAPH)
        else:
            port = _port(model, outputs[key], batches=member.max_batch_size > 0)
            yield from _agree(said, step.output_map[key], port, known, at)


def _choices(names: Mapping[str, Any]) -> str:
    return f"it has {', '.join(names)}" if names else "it has none"


def _agree(said: str, tensor: str, port: _Port, known: dict[str, _Port], at: Path) -> Iterator[Finding]:
    first = known.setdefault(tensor, port)
    if first.datatype != port.datatype:
        kind, one, other = "data type", _type_name(first.datatype), _type_name(port.datatype)
    elif not _same_dims(first.dims, port.dims) and not _same_dims(first.full_dims, port.full_dims):
        kind, one, other = "shape", _dims(first.full_dims), _dims(port.full_dims)
    else:
        return
    inferred = f"{one} is inferred from model {first.model} while {other} is inferred from model {port.model}"
    yield Finding(at, f"{said}ensemble tensor {tensor}: inconsistent {kind}: {inferred}", stage=Stage.GRAPH)


def _same_dims(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _dims(dims: Sequence[int]) -> str:
    return f"[{','.join(map(str, dims))}]"


def _type_name(value: int) -> str:
    return BY_CONFIG_VALUE[value].config_name if value in BY_CONFIG_VALUE else "TYPE_INVALID"


def cycle_through(start: str, members_of: Callable[[str], Iterable[str]]) -> str:
    """Return the model whose step leads back to the ensemble `start`, or nothing where there is no such circle."""
    waiting, seen = [start], {start}
    while waiting:
        name = waiting.pop()
        for member in members_of(name):
            if member == start:
                return name
            if member not in seen:
                seen.add(member)
                waiting.append(member)
    return ""
