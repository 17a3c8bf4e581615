"""The repository both servers load: the smallest python model, and one that hands back a large tensor."""

from pathlib import Path

ADD_SUB = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            outputs = [pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
"""

IDENTITY = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", tensor.as_numpy())]))
        return responses
"""

BLS = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in ("INPUT0", "INPUT1")]
            for _ in range(3):
                inputs = [pb_utils.Tensor(f"INPUT{i}", tensor.as_numpy()) for i, tensor in enumerate(tensors)]
                call = pb_utils.InferenceRequest(
                    model_name="add_sub", requested_output_names=["OUTPUT0", "OUTPUT1"], inputs=inputs
                )
                tensors = call.exec().output_tensors()
            outputs = [pb_utils.Tensor(f"OUTPUT{i}", tensor.as_numpy()) for i, tensor in enumerate(tensors)]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
"""

INLINE = 'parameters { key: "EXECUTION_MODE" value { string_value: "inline" } }\n'
"""Triton ignores it."""


def _config(name: str, inputs: int, outputs: int, dims: str, extra: str = "", batch: int = 0) -> str:
    def tensors(kind: str, count: int) -> str:
        rows = ", ".join(f'{{ name: "{kind.upper()}{i}" data_type: TYPE_FP32 dims: [ {dims} ] }}' for i in range(count))
        return f"{kind} [ {rows} ]\n"

    head = f'name: "{name}"\nbackend: "python"\nmax_batch_size: {batch}\n'
    return (
        head + tensors("input", inputs) + tensors("output", outputs) + "instance_group [ { kind: KIND_CPU } ]\n" + extra
    )


def _ensemble() -> str:
    """Return the configuration of add_sub three times over, the outputs of one step the inputs of the next."""

    def tensors(step: int, names: tuple[str, str]) -> tuple[str, str]:
        return names if step in {0, 3} else (f"between{step}_0", f"between{step}_1")

    steps = []
    for step in range(3):
        taken, given = tensors(step, ("INPUT0", "INPUT1")), tensors(step + 1, ("OUTPUT0", "OUTPUT1"))
        maps = [f'input_map {{ key: "INPUT{i}" value: "{name}" }}' for i, name in enumerate(taken)]
        maps += [f'output_map {{ key: "OUTPUT{i}" value: "{name}" }}' for i, name in enumerate(given)]
        steps.append(f'{{ model_name: "add_sub" model_version: -1 {" ".join(maps)} }}')
    ports = [
        f'{kind} [ {{ name: "{kind.upper()}{i}" data_type: TYPE_FP32 dims: [ 16 ] }} ]\n'
        for kind in ("input", "output")
        for i in (0, 1)
    ]
    scheduling = f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}\n"
    return 'name: "add_sub_thrice"\nplatform: "ensemble"\n' + "".join(ports) + scheduling


def write(repository: Path) -> None:
    """Write the repository."""
    for name, config, code in (
        ("add_sub", _config("add_sub", 2, 2, "16"), ADD_SUB),
        ("add_sub_batch", _config("add_sub_batch", 2, 2, "16", "dynamic_batching { }\n", 64), ADD_SUB),
        ("add_sub_inside", _config("add_sub_inside", 2, 2, "16", INLINE), ADD_SUB),
        ("add_sub_bls", _config("add_sub_bls", 2, 2, "16"), BLS),
        ("identity", _config("identity", 1, 1, "-1"), IDENTITY),
    ):
        (repository / name / "1").mkdir(parents=True, exist_ok=True)
        (repository / name / "config.pbtxt").write_text(config)
        (repository / name / "1" / "model.py").write_text(code)
    (repository / "add_sub_thrice" / "1").mkdir(parents=True, exist_ok=True)
    (repository / "add_sub_thrice" / "config.pbtxt").write_text(_ensemble())
