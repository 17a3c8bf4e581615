"""`tritium check` where a backend has to be asked."""

import importlib.util
import sys

import pytest
from click.testing import CliRunner

from tritium.cli.check import check

PYTHON_MODEL = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [0]})
        return config
"""


def run(*arguments):
    result = CliRunner().invoke(check, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.fixture
def onnx_model(tmp_path):
    """A repository with an ONNX model that names no tensors in its configuration, and an ensemble of it."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [4])],
        [value("y", onnx.TensorProto.FLOAT, [4])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "same" / "1").mkdir(parents=True)
    onnx.save(model, str(tmp_path / "same" / "1" / "model.onnx"))
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "config.pbtxt").write_text(
        "platform: 'ensemble'\n"
        "input { name: 'x' data_type: TYPE_INT64 dims: 4 }\noutput { name: 'y' data_type: TYPE_FP32 dims: 4 }\n"
        "ensemble_scheduling { step { model_name: 'same' model_version: -1\n"
        "input_map { key: 'x' value: 'x' } output_map { key: 'y' value: 'y' } } }\n"
    )
    return tmp_path


def test_tensors_are_read_from_the_model_file(onnx_model):
    """An ONNX model without a configuration is completed, so that the ensemble of it can be checked."""
    code, output = run(onnx_model)
    assert code == 2
    assert (
        "inconsistent data type: TYPE_INT64 is inferred from model all while TYPE_FP32 is inferred from model same"
        in output
    )
    assert output.endswith("1 problem in 1 of 2 models.\n")


def test_broken_model_file_is_a_problem(onnx_model):
    """A file that is no ONNX model is reported, not raised."""
    (onnx_model / "same" / "1" / "model.onnx").write_bytes(b"no model")
    code, output = run(onnx_model / "same")
    assert code == 2
    assert output.endswith("1 problem in 1 of 1 model.\n")


def test_python_models_run_only_when_asked(tmp_path):
    """Without --run-python the model's code is not run and that is said; with it, what it completes is checked."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.py").write_text(PYTHON_MODEL)
    code, output = run(tmp_path)
    assert (code, output) == (
        0,
        "No problems in 1 model.\nnot checked: m: auto_complete_config of its model.py was not run\n",
    )
    code, output = run("--run-python", tmp_path)
    assert code == 2
    assert "model output 'y' dimension must be integer >= 1" in output


def test_no_engine_is_imported_without_need(tmp_path, monkeypatch):
    """A repository whose files say everything is checked without onnxruntime or torch."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").touch()
    (tmp_path / "m" / "config.pbtxt").write_text(
        "input { name: 'x' data_type: TYPE_FP32 dims: 4 }\noutput { name: 'y' data_type: TYPE_FP32 dims: 4 }\n"
    )
    assert run(tmp_path) == (0, "No problems in 1 model.\n")


def test_path_that_is_not_there(tmp_path):
    """A misspelt path is a problem, with the path that may have been meant."""
    (tmp_path / "models").mkdir()
    code, output = run(tmp_path / "modles")
    assert code == 2
    assert output == f"{tmp_path}/modles  no such folder      hint: did you mean {tmp_path}/models?\n1 problem.\n"
    assert "hint: there is no 'zzz' in /" in run("/zzz/repository")[1]


@pytest.mark.parametrize("address", ["s3://", "gs:///models", "as://account"])
def test_addresses_without_a_bucket(address):
    """An address in an object store has to name a bucket, or an account and a container."""
    code, output = run(address)
    assert code == 2
    assert output.startswith(f"{address}  {address} names no ")


@pytest.mark.parametrize(
    ("backend", "file", "package"),
    [("pytorch", "model.pt", "torch"), ("openvino", "model.xml", "openvino"), ("fil", "xgboost.json", "treelite")],
)
def test_a_missing_package_is_a_problem_with_its_way_out(tmp_path, monkeypatch, backend, file, package):
    """What the first load would say is said here; a model with a Python of its own brings its packages."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find_spec(name))
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / file).touch()
    text = f"backend: '{backend}'\ninput {{ name: 'x__0' data_type: TYPE_FP32 dims: 4 }}\n"
    text += "output { name: 'y__0' data_type: TYPE_FP32 dims: 4 }\nmax_batch_size: 8\n"
    (tmp_path / "m" / "config.pbtxt").write_text(text)
    code, output = run(tmp_path)
    assert code == 2
    assert f"the {backend} backend needs the package {package}, which is not installed" in output
    assert "pip install 'tritium[" in output
    text += "parameters { key: 'EXECUTION_ENV_PATH' value { string_value: '/env' } }\n"
    (tmp_path / "m" / "config.pbtxt").write_text(text)
    assert "which is not installed" not in run(tmp_path)[1]


def test_a_platform_of_the_python_backend_is_told_what_serves_it(tmp_path):
    """Triton's platform handlers are not here: the refusal names the backend that is."""
    (tmp_path / "m" / "1" / "model.savedmodel").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").write_text('backend: "python" platform: "tensorflow_savedmodel"\n')
    code, output = run(tmp_path)
    assert code == 2
    assert "version 1 of model 'm' has no model.py" in output
    assert "the handler of platform tensorflow_savedmodel" in output
