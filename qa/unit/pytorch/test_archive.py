"""AOTInductor archives, run by the class that its process would run."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritium.backends.hosted.configured import Refused
from tritium.compat.pb_utils import InferenceRequest, Tensor

torch = pytest.importorskip("torch", reason="the pytorch backend needs torch")
archive = pytest.importorskip("tritium.backends.pytorch.archive")

FP32 = "data_type: TYPE_FP32 dims: [ 3 ]"
HEAD = 'platform: "torch_aoti" max_batch_size: 4 '
PATHS = (
    f'input [ {{ name: "ARGS[1][k]" {FP32} }}, {{ name: "ARGS[0]" {FP32} }} ] '
    f'output [ {{ name: "RESULT[d][0]" {FP32} }}, {{ name: "RESULT[s]" {FP32} }} ]'
)


class Nested(torch.nn.Module):
    """Takes a tensor and a dictionary, gives a dictionary with a tuple in it."""

    def forward(self, a: Any, options: dict[str, Any]) -> dict[str, Any]:
        return {"s": a + options["k"], "d": (a - options["k"],)}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of Nested for batches up to 8."""
    if shutil.which("g++") is None:
        pytest.skip("AOTInductor needs g++")
    path = tmp_path_factory.mktemp("archive") / "model.pt2"
    rows = torch.export.Dim("rows", min=1, max=8)
    inputs = (torch.zeros(2, 3), {"k": torch.zeros(2, 3)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.export.export(Nested(), inputs, dynamic_shapes=({0: rows}, {"k": {0: rows}}))
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return path


def test_nested_tensors_go_by_path_and_by_number(compiled: Path, tmp_path: Path, load) -> None:
    """Inputs and outputs are found by both of their names, batches are shared out, and unknown names are refused.

    One test for all of it, for compiling an archive takes ten seconds and more.
    """
    (tmp_path / "1").mkdir()
    shutil.copy(compiled, tmp_path / "1" / "model.pt2")
    three, one = np.full((3, 3), 5, "f4"), np.full((1, 3), 2, "f4")
    by_number = PATHS.replace("ARGS[0]", "INPUT__0").replace("ARGS[1][k]", "INPUT__1")
    by_number = by_number.replace("RESULT[s]", "OUTPUT__0").replace("RESULT[d][0]", "OUTPUT__1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        for config, a, k, s, d in (
            (PATHS, "ARGS[0]", "ARGS[1][k]", "RESULT[s]", "RESULT[d][0]"),
            (by_number, "INPUT__0", "INPUT__1", "OUTPUT__0", "OUTPUT__1"),
        ):
            model = load(archive.TritonPythonModel, HEAD + config)
            requests = [
                InferenceRequest(
                    inputs=[Tensor(k, rows - 1), Tensor(a, rows)], model_name="m", requested_output_names=[]
                )
                for rows in (three, one)
            ]
            answers = [{t.name(): t.as_numpy() for t in r.output_tensors()} for r in model.execute(requests)]
            assert answers[0][s].tolist() == [[9, 9, 9]] * 3
            assert answers[1][d].tolist() == [[1, 1, 1]]
        with pytest.raises(Refused, match=r'Input "ARGS\[9\]" for model instance "m" is not found in model input map'):
            load(archive.TritonPythonModel, HEAD + PATHS.replace("ARGS[0]", "ARGS[9]"))


def test_what_is_no_archive_is_refused(tmp_path: Path, load) -> None:
    """The reason is torch's."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.pt2").write_bytes(b"no archive")
    with pytest.raises(Refused, match="failed to load model 'm': "):
        load(archive.TritonPythonModel, HEAD + PATHS)
