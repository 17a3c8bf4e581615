"""The PyTorch 2 runtime: a class of model.py with its weights, run by the class that its process would run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritium.backends.hosted.configured import Refused
from tritium.compat.pb_utils import InferenceRequest, Tensor
from tritium.compat.pb_utils.runtime import bind

torch = pytest.importorskip("torch", reason="the pytorch backend needs torch")
module = pytest.importorskip("tritium.backends.pytorch.module")

NET = """
import torch
from torch.nn import Linear


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = Linear(2, 2, bias=False)

    def forward(self, x):
        return self.layer(x), x.sum(dim=1, keepdim=True)
"""
FP32 = "data_type: TYPE_FP32 dims"
CONFIG = (
    f'runtime: "model.py" max_batch_size: 4 input {{ name: "x" {FP32}: 2 }} '
    f'output [ {{ name: "y" {FP32}: 2 }}, {{ name: "sum" {FP32}: 1 }} ]'
)


def options(**given: Any) -> str:
    text = json.dumps(json.dumps(given))
    return f'parameters {{ key: "TORCH_COMPILE_OPTIONAL_PARAMETERS" value {{ string_value: {text} }} }}'


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the model logs. Threads stay as they are: torch sets their number once a process."""
    lines: list[str] = []

    class Server:
        def log(self, level: str, message: str) -> None:
            lines.append(message)

    bind(Server())  # type: ignore[arg-type]  # all that is asked of it here
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda _: None)
    return lines


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes model.py as version 1, with weights that double where it is told to."""

    def write_model(source: str = NET, *, weights: bool = True) -> None:
        (tmp_path / "1").mkdir(exist_ok=True)
        (tmp_path / "1" / "model.py").write_text(source)
        if weights:
            torch.save({"layer.weight": torch.eye(2) * 2}, tmp_path / "1" / "model.pt")

    return write_model


def run(model: Any, *rows: list[list[float]]) -> list[dict[str, Any]]:
    requests = [
        InferenceRequest(inputs=[Tensor("x", np.array(r, "f4"))], model_name="m", requested_output_names=[])
        for r in rows
    ]
    responses = model.execute(requests)
    return [
        {"error": r.error().message()} if r.error() else {t.name(): t.as_numpy().tolist() for t in r.output_tensors()}
        for r in responses
    ]


def test_the_class_of_the_file_gets_its_weights(write, load, log: list[str]) -> None:
    """The file's own class is run, not one that it imports; its weights lie beside it; batches are shared out."""
    write()
    model = load(module.TritonPythonModel, CONFIG + options(disable=True))
    assert run(model, [[1, 2]], [[3, 4], [5, 6]]) == [
        {"y": [[2, 4]], "sum": [[3]]},
        {"y": [[6, 8], [10, 12]], "sum": [[7], [11]]},
    ]
    assert "Torch parallelism settings for 'm': NUM_THREADS = 1; NUM_INTEROP_THREADS = 1;" in log
    assert "'torch.compile' optional parameter(s) for 'm': {'disable': True}" in log


def test_without_a_compiler_it_runs_uncompiled(write, load, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch would find no C++ compiler the log says so, and the model serves."""
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    write(weights=False)
    assert run(load(module.TritonPythonModel, CONFIG), [[1, 2]])[0]["sum"] == [[3]]
    assert "Model parameter file not found for 'm'" in log
    assert any("runs without torch.compile" in line for line in log)


def test_what_the_model_raises_is_the_answer(write, load) -> None:
    """An exception fails the request; too few results are told with both numbers."""
    write(NET.replace("return self.layer(x), x.sum(dim=1, keepdim=True)", "return self.layer(x)"))
    assert run(load(module.TritonPythonModel, CONFIG + options(disable=True)), [[1, 2]]) == [
        {"error": "the model returned 1 outputs, the configuration has 2"}
    ]
    write(NET.replace("return self", "raise ValueError('no such row')\n        return self"))
    (answer,) = run(load(module.TritonPythonModel, CONFIG + options(disable=True)), [[1, 2]])
    assert answer == {"error": "PyTorch execute failure: ValueError: no such row"}


@pytest.mark.parametrize(
    ("source", "extra", "said"),
    [
        ("import torch\n", "", "Cannot find a subclass of torch.nn.Module"),
        (NET, options(model="x"), "'model' is not an optional parameter for 'torch.compile'"),
        (NET, 'parameters { key: "NUM_THREADS" value { string_value: "few" } }', "convert 'few' to integral number"),
        (NET, options()[:-6] + '[" } }', "is not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_at_load(write, load, source: str, extra: str, said: str) -> None:
    """A file without a module, and parameters that cannot be."""
    write(source)
    with pytest.raises(Refused, match=said):
        load(module.TritonPythonModel, CONFIG + extra)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_run_where_there_is_no_source(tmp_path: Path, load, log: list[str]) -> None:
    """A model.pt without model.py is TorchScript."""
    (tmp_path / "1").mkdir()
    torch.jit.trace(torch.nn.Identity(), torch.zeros(1, 2)).save(str(tmp_path / "1" / "model.pt"))
    config = CONFIG[: CONFIG.index("output")] + f'output {{ name: "y" {FP32}: 2 }}'
    assert run(load(module.TritonPythonModel, config), [[1, 2]]) == [{"y": [[1, 2]]}]
    assert "Loading 'm' as TorchScript" in log
