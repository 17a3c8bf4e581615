"""`python -m qa.bench.backend_overhead`: what a request costs above the library that computes it.

The same add_sub of two FP32[16] as ONNX, TorchScript and OpenVINO model: the library called in a loop, the model called
in the server's own way without a protocol, and a server under load. CPU time of all processes involved, a request.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from qa.bench.kserve.load import Case, run
from qa.bench.kserve.server import free_ports, start, tree_cpu_s

from tritium.backends.contract import ModelSource
from tritium.compat.config.defaults import complete_backend, complete_instances
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_file
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.tensor import from_array
from tritium.repository.tensor_loader import tensor_loaders

ROOT = Path(__file__).parents[2]
CALLS = 5_000
ONE = np.arange(16, dtype=np.float32)


def write_onnx(folder: Path) -> Callable[[], object]:
    """Write add_sub as ONNX; return a direct call of it."""
    import onnx  # noqa: PLC0415  # each library is imported where it is asked for
    import onnxruntime  # noqa: PLC0415
    from onnx import TensorProto, helper  # noqa: PLC0415

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [16]) for name in names()]
    nodes = [helper.make_node(op, ["INPUT0", "INPUT1"], [f"OUTPUT{n}"]) for n, op in enumerate(("Add", "Sub"))]
    graph = helper.make_graph(nodes, "g", ports[:2], ports[2:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    return lambda: session.run(["OUTPUT0", "OUTPUT1"], {"INPUT0": ONE, "INPUT1": ONE})


def write_torch(folder: Path) -> Callable[[], object]:
    """Write add_sub as TorchScript; return a direct call of it."""
    import torch  # noqa: PLC0415

    module = torch.jit.trace(lambda a, b: (a + b, a - b), (torch.zeros(16), torch.zeros(16)))
    module.save(str(folder / "model.pt"))
    one = torch.from_numpy(ONE)

    def call() -> object:
        with torch.inference_mode():
            return module(one, one)

    return call


def write_openvino(folder: Path) -> Callable[[], object]:
    """Write add_sub as an OpenVINO model; return a direct call of it."""
    import openvino as ov  # noqa: PLC0415

    a, b = (ov.opset13.parameter([16], np.float32) for _ in range(2))
    model = ov.Model([ov.opset13.result(ov.opset13.add(a, b)), ov.opset13.result(ov.opset13.subtract(a, b))], [a, b])
    for port, name in zip((*model.inputs, *model.outputs), names(), strict=True):
        port.tensor.set_names({name})
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    for name in names()[:2]:
        request.set_tensor(name, ov.Tensor(ONE, shared_memory=True))
    return request.infer


LIBRARIES = {"onnxruntime": write_onnx, "pytorch": write_torch, "openvino": write_openvino}


def names() -> list[str]:
    """Return the tensors of add_sub."""
    return ["INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1"]


def configure(folder: Path, backend: str) -> None:
    """Write the configuration of add_sub."""
    tensors = [f'{{ name: "{name}" data_type: TYPE_FP32 dims: 16 }}' for name in names()]
    (folder / "config.pbtxt").write_text(
        f'name: "add_sub" backend: "{backend}" input [ {", ".join(tensors[:2])} ] output [ {", ".join(tensors[2:])} ] '
        "instance_group { kind: KIND_CPU count: 1 }\n"
    )


def direct(call: Callable[[], object]) -> float:
    """Return the CPU time of one call of the library."""
    for _ in range(200):
        call()
    began = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - began) * 1e6 / CALLS


async def through_model(folder: Path, backend: str) -> float:
    """Return the CPU time of one request through checks, scheduler and backend, one after the other."""
    proto = parse_file(folder / "config.pbtxt").message
    complete_backend(proto, "add_sub", ())
    complete_instances(proto)
    model = await tensor_loaders()[backend].load(ModelSource(from_proto(proto), folder, "1"))
    loop = asyncio.get_running_loop()
    inputs = [from_array(name, ONE, "FP32") for name in names()[:2]]

    async def ask(times: int) -> None:
        for _ in range(times):
            reply = SingleReply(loop)
            model.submit(InferRequest("add_sub", inputs=list(inputs)), reply)
            await reply.future

    await ask(200)
    began = tree_cpu_s(os.getpid())
    await ask(CALLS)
    spent = tree_cpu_s(os.getpid()) - began
    await model.close()
    return spent * 1e6 / CALLS


def served(repository: Path, scratch: Path, runs: int, seconds: float) -> list[float]:
    """Return the server's CPU time a request over HTTP one and eight at once, and over gRPC eight at once."""
    http, grpc, metrics = free_ports(3)
    program = str(Path(sys.executable).with_name("tritium"))
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}", "--no-openai"]
    line = [program, "serve", str(repository), *ports]
    server = start("Tritium", line, dict(os.environ), http, grpc, scratch / "server.log")
    try:
        cases = [
            Case(f"{tool} {count}", "add_sub", tool, count) for tool, count in (("http", 1), ("http", 8), ("grpc", 8))
        ]
        return [
            statistics.median(run(case, server, ROOT / ".bench" / "triton", seconds).cpu_us for _ in range(runs))
            for case in cases
        ]
    finally:
        server.stop()


def main() -> None:
    """Print one row a library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs a case (medians are taken)")
    parser.add_argument("--seconds", type=float, default=2, help="seconds a run")
    parser.add_argument("--only", default="", help="the backend whose name contains this")
    options = parser.parse_args()
    print("| backend | library alone | through the model | server, HTTP, 1 at once | 8 at once | gRPC, 8 at once |")
    print("|---|---|---|---|---|---|")
    for backend, write in LIBRARIES.items():
        if options.only not in backend:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "models", "add_sub")
            (folder / "1").mkdir(parents=True)
            configure(folder, backend)
            call = write(folder / "1")
            alone = statistics.median(direct(call) for _ in range(options.runs))
            inner = asyncio.run(through_model(folder, backend))
            loaded = served(folder.parent, Path(scratch), options.runs, options.seconds)
        print(f"| {backend} | " + " | ".join(f"{value:.0f}" for value in (alone, inner, *loaded)) + " |", flush=True)
    print(f"\nµs of CPU a request. Medians of {options.runs} runs. Load average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
