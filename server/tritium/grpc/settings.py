"""Log and trace settings: reading them, and changing them while the server runs."""

from typing import Any

from tritium.compat.protobufs import service_pb2
from tritium.compat.v2 import log_setting, trace_setting
from tritium.compat.v2.log_setting import LogValue
from tritium.core.serving import check_traced
from tritium.grpc.front import Front
from tritium.grpc.message import parse
from tritium.wire.grpc import Call


async def logging(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Change the log settings that are named, and return all of them."""
    wanted = parse(service_pb2.LogSettingsRequest, message).settings
    if wanted:
        front.server.log_settings.update(log_setting.read_values({name: _chosen(wanted[name]) for name in wanted}))
    response = service_pb2.LogSettingsResponse()
    for name, value in front.server.log_settings.settings.rows().items():
        setting = response.settings[name]
        if isinstance(value, bool):
            setting.bool_param = value
        elif isinstance(value, int):
            setting.uint32_param = value
        else:
            setting.string_param = value
    return bytes(response.SerializeToString())


def _chosen(value: Any) -> LogValue | None:
    choice = value.WhichOneof("parameter_choice")
    return getattr(value, choice) if choice else None


async def tracing(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Change the trace settings that are named, of the server or of a model, and return all of them."""
    request = parse(service_pb2.TraceSettingRequest, message)
    if request.model_name:
        check_traced(front.server.catalog, request.model_name)
    if request.settings:
        wanted = {name: tuple(values.value) for name, values in request.settings.items()}
        front.server.trace_settings.update(request.model_name, trace_setting.read_lists(wanted))
    response = service_pb2.TraceSettingResponse()
    for name, value in front.server.trace_settings.settings(request.model_name).rows().items():
        response.settings[name].value.extend([value] if isinstance(value, str) else value)
    return bytes(response.SerializeToString())
