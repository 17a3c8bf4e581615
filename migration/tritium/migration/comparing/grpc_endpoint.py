"""A server over gRPC: inferences by ModelInfer, streams and sequences of answers by ModelStreamInfer."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio is not typed
from google.protobuf import json_format  # type: ignore[import-untyped]  # protobuf's stubs are not required

from tritium.compat.protobufs import service_pb2
from tritium.migration.comparing.call import Answer, Call, Captured, Inference, Outcome, Unreachable
from tritium.migration.comparing.tensor import BadTensor, Tensor, from_elements

_SERVICE = "/inference.GRPCInferenceService/"
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcEndpoint:
    """One server over gRPC, on one channel."""

    protocol = "grpc"

    def __init__(self, scheme: str, place: str, timeout_s: float, cafile: Path | None = None) -> None:
        self.url = f"{scheme}://{place}"
        self._timeout_s = timeout_s
        if scheme == "grpcs":
            authorities = cafile.read_bytes() if cafile else None
            self._channel = grpc.secure_channel(place, grpc.ssl_channel_credentials(authorities), _UNLIMITED)
        else:
            self._channel = grpc.insecure_channel(place, _UNLIMITED)

    def models(self) -> dict[str, str]:
        """Ask for the repository's index."""
        response = self._ask(
            "RepositoryIndex", service_pb2.RepositoryIndexRequest(), service_pb2.RepositoryIndexResponse
        )
        states: dict[str, str] = {}
        for entry in response.models:
            states[entry.name] = "READY" if "READY" in (entry.state, states.get(entry.name)) else entry.state
        return states

    def metadata(self, model: str) -> dict[str, Any]:
        """Ask for a model's metadata."""
        request = service_pb2.ModelMetadataRequest(name=model)
        return _document(self._ask("ModelMetadata", request, service_pb2.ModelMetadataResponse))

    def config(self, model: str) -> dict[str, Any]:
        """Ask for a model's configuration."""
        request = service_pb2.ModelConfigRequest(name=model)
        return _document(self._ask("ModelConfig", request, service_pb2.ModelConfigResponse).config)

    def send(self, call: Call, correlation: int = 0) -> Outcome:
        """Send a call; a stream of one request where answers may be several."""
        if isinstance(call, Captured):
            if call.path.endswith("/ModelStreamInfer"):
                return self._stream(call.messages)
            return self._infer(call.messages[0])
        message = _encoded(call, correlation).SerializeToString()
        return self._stream((message,)) if call.streamed else self._infer(message)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _infer(self, message: bytes) -> Outcome:
        method = self._channel.unary_unary(
            _SERVICE + "ModelInfer", response_deserializer=service_pb2.ModelInferResponse.FromString
        )
        began = time.perf_counter()
        try:
            response = method(message, timeout=self._timeout_s)
        except grpc.RpcError as error:
            return self._refused((), error, time.perf_counter() - began, 0.0)
        took_s = time.perf_counter() - began
        return Outcome((_decoded(response),), took_s=took_s, first_s=took_s)

    def _stream(self, messages: tuple[bytes, ...]) -> Outcome:
        method = self._channel.stream_stream(
            _SERVICE + "ModelStreamInfer", response_deserializer=service_pb2.ModelStreamInferResponse.FromString
        )
        answers: list[Answer] = []
        status, message, first_s = "ok", "", 0.0
        began = time.perf_counter()
        try:
            for response in method(iter(messages), timeout=self._timeout_s):
                first_s = first_s or time.perf_counter() - began
                if response.error_message:
                    status, message = "error", response.error_message
                elif response.infer_response.outputs:
                    answers.append(_decoded(response.infer_response))
        except grpc.RpcError as error:
            return self._refused(tuple(answers), error, time.perf_counter() - began, first_s)
        return Outcome(tuple(answers), status, message, time.perf_counter() - began, first_s)

    def _refused(self, answers: tuple[Answer, ...], error: Any, took_s: float, first_s: float) -> Outcome:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise Unreachable(f"{self.url}: {error.details()}; is it running?") from error
        return Outcome(answers, error.code().name, error.details() or "", took_s, first_s)

    def _ask(self, method: str, request: Any, response: Any) -> Any:
        call = self._channel.unary_unary(
            _SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return call(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise Unreachable(f"{self.url} {method}: {error.details()}; is this the gRPC port?") from error


def _document(message: Any) -> dict[str, Any]:
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))


def _encoded(call: Inference, correlation: int) -> Any:
    request = service_pb2.ModelInferRequest(model_name=call.model)
    for tensor in call.inputs:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.data)
    for name in call.outputs:
        request.outputs.add(name=name)
    for name, value in call.parameters:
        _set(request.parameters[name], value)
    if call.sequence:
        request.parameters["sequence_id"].int64_param = correlation
        request.parameters["sequence_start"].bool_param = call.starts
        request.parameters["sequence_end"].bool_param = call.ends
    return request


def _set(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


def _decoded(response: Any) -> Answer:
    raw: Iterator[bytes] = iter(response.raw_output_contents)
    tensors: list[Tensor] = []
    document: dict[str, Any] = {}
    for output in response.outputs:
        shape = tuple(output.shape)
        if output.HasField("contents") or not response.raw_output_contents:
            try:
                elements = list(getattr(output.contents, _CONTENTS.get(output.datatype, "bytes_contents")))
                tensors.append(from_elements(output.name, output.datatype, shape, elements))
            except BadTensor as error:
                document[f"unreadable {output.name}"] = str(error)
        else:
            tensors.append(Tensor(output.name, output.datatype, shape, next(raw, b"")))
    for name, parameter in response.parameters.items():
        if name != "triton_final_response":
            document.setdefault("parameters", {})[name] = getattr(
                parameter, parameter.WhichOneof("parameter_choice") or "string_param"
            )
    document |= {"model_name": response.model_name, "model_version": response.model_version}
    return Answer(tuple(tensors), document)
