"""The protobuf messages of Triton's gRPC interface and model configuration, from the tritonclient package.

    from tritium.compat.protobufs import model_config_pb2, service_pb2

Only the two generated modules are loaded: the `tritonclient.grpc` package itself would bring its whole client and
grpcio with it, a third of a second that no server start should pay. Importing the package later still works, and
its message classes are these.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGE = "tritonclient.grpc"


def _load() -> tuple[Any, Any]:
    if _PACKAGE in sys.modules:
        return _import("model_config_pb2"), _import("service_pb2")
    client = importlib.util.find_spec("tritonclient")
    if client is None or client.origin is None:
        raise ModuleNotFoundError(
            "tritonclient is not installed: pip install 'tritonclient[grpc]'", name="tritonclient"
        )
    # A package of the same name and folder but without the code of its __init__ stands in while the two are imported.
    stand_in = ModuleType(_PACKAGE)
    stand_in.__path__ = [str(Path(client.origin).parent / "grpc")]
    sys.modules[_PACKAGE] = stand_in
    try:
        return _import("model_config_pb2"), _import("service_pb2")
    finally:
        del sys.modules[_PACKAGE]


def _import(name: str) -> Any:
    return importlib.import_module(f"{_PACKAGE}.{name}")


model_config_pb2, service_pb2 = _load()
