"""The rules of dynamic and sequence batching.

Source: ValidateModelConfig, GetBooleanSequenceControlProperties and GetTypedSequenceControlProperties in
core/src/model_config_utils.cc.
"""

from collections.abc import Iterator
from typing import Any

from tritium.compat.config.finding import Finding, Path

_BOOLEAN_CONTROLS = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_READY")
_CORRID = "CONTROL_SEQUENCE_CORRID"
_CORRID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
_VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")


def check_dynamic(config: Any) -> Iterator[Finding]:
    """Find what is wrong with `dynamic_batching`."""
    batching = config.dynamic_batching
    yield from _preferred(config, ("dynamic_batching",), batching, "dynamic batching preferred size")
    levels = batching.priority_levels
    if levels:
        if not 1 <= batching.default_priority_level <= levels:
            yield Finding(
                ("dynamic_batching", "default_priority_level"),
                f"default priority level must be in range [1, {levels}] for {config.name}",
                "1 is the highest priority",
            )
        for level in sorted(batching.priority_queue_policy):
            if not 1 <= level <= levels:
                yield Finding(
                    ("dynamic_batching", "priority_queue_policy", level),
                    f"priority queue policy must have priority level in range [1, {levels}] for {config.name}",
                )
    if batching.preserve_ordering:
        yield from _ordered(config)


def _ordered(config: Any) -> Iterator[Finding]:
    batching = config.dynamic_batching
    if batching.priority_levels > 1:
        yield Finding(
            ("dynamic_batching", "priority_levels"),
            f"Only one priority level is allowed when 'preserve_ordering' is true for {config.name}",
        )
    policies: list[tuple[Path, Any]] = [(("default_queue_policy",), batching.default_queue_policy)]
    table = batching.priority_queue_policy
    policies += [(("priority_queue_policy", level), table[level]) for level in sorted(table)]
    for where, policy in policies:
        if policy.default_timeout_microseconds and policy.timeout_action == policy.DELAY:
            yield Finding(
                ("dynamic_batching", *where),
                f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {config.name}",
            )


def _preferred(config: Any, where: Path, batching: Any, said: str) -> Iterator[Finding]:
    for index, size in enumerate(batching.preferred_batch_size):
        at = (*where, "preferred_batch_size", index)
        if size <= 0:
            yield Finding(at, f"{said} must be positive for {config.name}")
        elif size > config.max_batch_size:
            hint = f"max_batch_size is {config.max_batch_size}"
            yield Finding(at, f"{said} must be <= max batch size for {config.name}", hint)


def check_sequence(config: Any) -> Iterator[Finding]:
    """Find what is wrong with `sequence_batching`."""
    batching = config.sequence_batching
    if config.response_cache.enable:
        yield Finding(
            ("response_cache",),
            f"Response Cache does not currently support model {config.name} with sequence batching scheduler. "
            "Please disable the response cache.",
        )
    yield from _controls(config)
    if batching.HasField("oldest"):
        said = "sequence batching preferred batch size"
        yield from _preferred(config, ("sequence_batching", "oldest"), batching.oldest, said)
    if batching.HasField("direct") and not 0.0 <= batching.direct.minimum_slot_utilization <= 1.0:
        yield Finding(
            ("sequence_batching", "direct", "minimum_slot_utilization"),
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {config.name}",
        )


def _controls(config: Any) -> Iterator[Finding]:
    tensors: set[str] = set()
    kinds: set[str] = set()
    for index, tensor in enumerate(config.sequence_batching.control_input):
        where: Path = ("sequence_batching", "control_input", index)
        if not tensor.name:
            yield Finding(where, f"sequence batching control tensor must have a name for {config.name}")
        elif tensor.name in tensors:
            yield Finding(
                (*where, "name"),
                f"sequence batching control tensor '{tensor.name}' is specified for multiple control kinds "
                f"for {config.name}",
            )
        tensors.add(tensor.name)
        for place, control in enumerate(tensor.control):
            kind = control.Kind.Name(control.kind)
            at = (*where, "control", place)
            if kind in kinds:
                yield Finding(at, f"sequence batching specifies multiple {kind} tensors for {config.name}")
            kinds.add(kind)
            yield from _control(config, control, kind, at)


def _control(config: Any, control: Any, kind: str, at: Path) -> Iterator[Finding]:
    given = [name for name in _VALUES if getattr(control, name)]
    ending = f"for {kind} for {config.name}"
    names = "'int32_false_true', 'fp32_false_true'"
    if kind in _BOOLEAN_CONTROLS:
        if not given:
            message = f"sequence batching must specify either {names} or 'bool_false_true' {ending}"
            yield Finding(at, message, "such as fp32_false_true: [ 0, 1 ]")
        elif len(given) > 1:
            message = f"sequence batching specifies more than one from {names} and 'bool_false_true' {ending}"
            yield Finding((*at, given[1]), message)
        elif len(getattr(control, given[0])) != 2:
            message = f"sequence batching control '{given[0]}' must have exactly 2 entries {ending}"
            yield Finding((*at, given[0]), message, "the value for false, then the value for true")
    elif kind == _CORRID:
        if given:
            message = f"sequence batching must not specify either {names} or 'bool_false_true' {ending}"
            yield Finding((*at, given[0]), message, "a correlation ID takes data_type alone")
        datatype = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number.get(control.data_type)
        if datatype is None or datatype.name not in _CORRID_TYPES:
            yield Finding(
                at,
                f"unexpected data type for control {kind} for {config.name}. Allowed data types are TYPE_UINT64, "
                "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
            )
