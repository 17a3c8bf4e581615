"""Finding a tensor in a request or response, and an input or output in a configuration, by name."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tritium.compat.pb_utils.request import InferenceRequest
    from tritium.compat.pb_utils.response import InferenceResponse
    from tritium.compat.pb_utils.tensor import Tensor


def get_input_tensor_by_name(inference_request: "InferenceRequest", name: str) -> "Tensor | None":
    """Return an input of a request, None where it has no such input."""
    for tensor in inference_request.inputs():
        if tensor.name() == name:
            return tensor
    return None


def get_output_tensor_by_name(inference_response: "InferenceResponse", name: str) -> "Tensor | None":
    """Return an output of a response, None where it has no such output."""
    for tensor in inference_response.output_tensors():
        if tensor.name() == name:
            return tensor
    return None


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return an input of a configuration, None where it has no such input."""
    return next((io for io in model_config.get("input", ()) if io["name"] == name), None)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return an output of a configuration, None where it has no such output."""
    return next((io for io in model_config.get("output", ()) if io["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """Tell whether a configuration is that of a decoupled model."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))
