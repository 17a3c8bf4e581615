"""What two servers say of a model: its metadata and its configuration, and which differences clients can see."""

from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]  # protobuf's stubs are not required

from tritium.compat.protobufs import model_config_pb2
from tritium.migration.comparing.call import Unreachable

# What a client sees of a configuration; the rest is how the server goes about it.
_SEEN = ("max_batch_size", "input", "output", "model_transaction_policy", "sequence_batching")


def read_config(document: dict[str, Any], url: str) -> Any:
    """Return a configuration as the protobuf message, whichever protocol told it.

    Raises:
        Unreachable: it is no configuration.
    """
    message = model_config_pb2.ModelConfig()
    try:
        json_format.ParseDict(document, message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise Unreachable(
            f"{url}: the configuration of {document.get('name')} is not one of Triton's: {error}"
        ) from None
    return message


def configurations(old: Any, new: Any) -> tuple[list[str], list[str]]:
    """Compare two configurations: what clients can see, and what is only worth a remark."""
    first, second = (json_format.MessageToDict(config, preserving_proto_field_name=True) for config in (old, new))
    differing = [key for key in sorted(set(first) | set(second)) if first.get(key) != second.get(key)]
    seen = [
        line
        for key in differing
        if key in _SEEN
        for line in _by_name(f"configuration, {key}", first.get(key), second.get(key))
    ]
    rest = [key for key in differing if key not in _SEEN]
    return seen, [f"configuration: {', '.join(rest)} differ"] if rest else []


def metadata(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Compare two metadata: tensors and versions, and the platform as a remark."""
    seen = [
        line
        for key in ("inputs", "outputs")
        for line in _by_name(f"metadata, {key}", _plain(old.get(key)), _plain(new.get(key)))
    ]
    if sorted(old.get("versions", [])) != sorted(new.get("versions", [])):
        seen.append(f"metadata: versions {old.get('versions')} became {new.get('versions')}")
    platforms = [str(one.get("platform", "")) for one in (old, new)]
    return seen, ["metadata: platform {!r} became {!r}".format(*platforms)] if platforms[0] != platforms[1] else []


def _plain(tensors: Any) -> list[dict[str, Any]]:
    """Return tensors with their shapes as numbers, which gRPC's JSON form has as strings."""
    return [{**tensor, "shape": [int(size) for size in tensor.get("shape", [])]} for tensor in tensors or []]


def _by_name(where: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old or new, list):
        first, second = ({str(one.get("name")): one for one in side or []} for side in (old, new))
        for name in [*first, *(name for name in second if name not in first)]:
            if first.get(name) != second.get(name):
                yield f"{where}: {_said(first.get(name))} became {_said(second.get(name))}"
    elif old != new:
        yield f"{where}: {_said(old)} became {_said(new)}"


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
