"""A configuration as the JSON of Triton's config endpoint, and back (for the `config` parameter of a load).

Every field without presence is written with its default, names are those of the proto, 64-bit integers are
numbers. Source: ModelConfigToJson and JsonToModelConfig in core/src/model_config_utils.cc.
"""

import json
import re
import struct
from typing import Any

from tritium.compat.protobufs import model_config_pb2


class BadConfigJson(ValueError):
    """The text is no model configuration in JSON."""


def to_dict(config: Any) -> dict[str, Any]:
    """Return the configuration message as the object the config endpoint answers, in its order."""
    return _object(config)


def to_json(config: Any) -> bytes:
    """Return the body of the config endpoint."""
    return json.dumps(to_dict(config), separators=(",", ":"), ensure_ascii=False).encode()


def from_json(text: str) -> Any:
    """Read a configuration from JSON.

    Raises:
        BadConfigJson: it is not JSON, or not that of a model configuration.
    """
    # The stubs of protobuf are no dependency of ours; only load overrides need the module.
    from google.protobuf import json_format  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        found = _loads(text)
        if not isinstance(found, dict):
            raise BadConfigJson("a model configuration is a JSON object")
        config = model_config_pb2.ModelConfig()
        return json_format.ParseDict(_in_lists(found, config.DESCRIPTOR), config)
    except (json.JSONDecodeError, json_format.ParseError) as error:
        raise BadConfigJson(str(error)) from None
    except RecursionError:
        raise BadConfigJson("the configuration is nested too deeply") from None


_BARE_KEY = re.compile(r'("(?:[^"\\]|\\.)*")|([A-Za-z_]\w*)(?=\s*:)')


def _loads(text: str) -> Any:
    """Read JSON, with keys that need no quotation marks where protobuf's own parser asks for none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(_BARE_KEY.sub(lambda found: found[1] or f'"{found[2]}"', text))


def _in_lists(given: Any, descriptor: Any) -> Any:
    """Put the value of a repeated field that stands alone into a list, as protobuf's reader in C++ takes it."""
    if not isinstance(given, dict):
        return given
    found = {}
    for name, value in given.items():
        field = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
        inner = field.message_type if field is not None else None
        if inner is not None and inner.GetOptions().map_entry:
            of = inner.fields_by_name["value"].message_type
            pairs = isinstance(value, dict) and of is not None
            found[name] = {key: _in_lists(one, of) for key, one in value.items()} if pairs else value
            continue
        elements = value if isinstance(value, list) else [value]
        elements = elements if inner is None else [_in_lists(one, inner) for one in elements]
        repeated = field is not None and field.is_repeated and value is not None
        found[name] = elements if repeated or isinstance(value, list) else elements[0]
    return found


def _object(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if not field.is_repeated:
            found[field.name] = _value(field, value)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            of = field.message_type.fields_by_name["value"]
            found[field.name] = {str(key): _value(of, value[key]) for key in sorted(value)}
        else:
            found[field.name] = [_value(field, item) for item in value]
    return found


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _object(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return _number(value, single=field.cpp_type == field.CPPTYPE_FLOAT)
    return value


def _number(value: float, *, single: bool) -> float | int | str:
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN is not itself
        return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(value)]
    if value == int(value) and abs(value) < 1e15:
        return int(value)
    if not single:
        return value
    # The shortest digits that read back as the same 32-bit float, as protobuf prints them.
    return next((short for digits in range(6, 9) if _same(short := float(f"{value:.{digits}g}"), value)), value)


def _same(short: float, value: float) -> bool:
    return bool(struct.unpack("<f", struct.pack("<f", short))[0] == value)
