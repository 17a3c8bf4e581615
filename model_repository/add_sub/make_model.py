"""Make 1/model.onnx: OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1. Needs the package onnx.

python model_repository/add_sub/make_model.py
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def make() -> onnx.ModelProto:
    """Return the graph; the batch dimension is open."""

    def port(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4])

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
        ],
        "add_sub",
        [port("INPUT0"), port("INPUT1")],
        [port("OUTPUT0"), port("OUTPUT1")],
    )
    return helper.make_model(graph, producer_name="tritium", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    model = make()
    onnx.checker.check_model(model)
    onnx.save(model, str(Path(__file__).parent / "1" / "model.onnx"))
