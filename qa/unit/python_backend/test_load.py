"""Loading a model: its arguments, what can be wrong with it, and how it is told."""

import asyncio
import dataclasses
import io
import json
import os
import signal
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tritium.backends.contract import BackendHost, InstancePlace
from tritium.backends.python.backend import PythonBackend
from tritium.backends.python.interpreter import interpreter_of
from tritium.core.errors import InferenceError, InvalidArgument, ModelFailed

INTERPRETER = Path(sys.executable).resolve()

RAISES = {
    "initialize": (
        """
        class TritonPythonModel:
            def initialize(self, args):
                raise RuntimeError("boom in initialize")
        """,
        "RuntimeError: boom in initialize\n\nAt:\n  {file}(3): initialize\n",
    ),
    "constructor": (
        """
        class TritonPythonModel:
            def __init__(self):
                raise RuntimeError("boom in constructor")
        """,
        "RuntimeError: boom in constructor\n\nAt:\n  {file}(3): __init__\n",
    ),
    "syntax": (
        "class TritonPythonModel\n  def\n",
        "SyntaxError: expected ':' (model.py, line 1)\n\nAt:\n  {file}(1): <module>\n",
    ),
    "no class": (
        "x = 1\n",
        (
            "AttributeError: module '1.model' has no attribute 'TritonPythonModel'\n\n"
            "Write class TritonPythonModel: with def execute(self, requests) in {file}"
        ),
    ),
}


async def load_failure(source, **settings) -> ModelFailed:
    with pytest.raises(ModelFailed) as caught:
        await PythonBackend().open(source, InstancePlace("m_0_0"), BackendHost(settings=settings))
    return caught.value


@pytest.mark.parametrize("case", RAISES)
async def test_raising_while_loading(write_model, case):
    """Whatever is raised on the way to a loaded model is told in Triton's words."""
    code, expected = RAISES[case]
    source = write_model(code)
    said = (await load_failure(source)).message
    assert expected.format(file=source.version_folder / "model.py") == said


async def test_import_error(write_model):
    """A missing module is told with the line that imports it, and the import system's frames, as Triton shows them."""
    source = write_model("import nonexistent_module_xyz\nclass TritonPythonModel: pass\n")
    lines = (await load_failure(source)).message.split("\n")
    assert lines[0] == "ModuleNotFoundError: No module named 'nonexistent_module_xyz'"
    assert ["", "At:", f"  {source.version_folder / 'model.py'}(1): <module>"] == lines[1:4]
    assert all(line.startswith("  <frozen importlib._bootstrap") for line in lines[4:-1])
    assert lines[-2].endswith(": _find_and_load")


async def test_no_model_file(write_model):
    """A version without model.py is refused at once (Triton hangs), and the hint says what to put where."""
    source = write_model("")
    error = await load_failure(source)
    assert f"Python model file not found in '{source.version_folder / 'model.py'}'" == error.message
    assert "TritonPythonModel" in error.hint
    with pytest.raises(ModelFailed, match="not found"):
        await PythonBackend().complete(source.config, source.folder, "1")


async def test_another_file_name(serve, tools):
    """default_model_filename names the file; the class comes from there."""
    with pytest.raises(ModelFailed, match=r"not found in '.*/1/other\.py'"):
        await serve(tools.identity, tools.any_fp32 + 'default_model_filename: "other.py"\n')


async def test_ending_while_loading(write_model):
    """A process that ends while it loads says how it ended."""
    leave = "import os\nclass TritonPythonModel:\n    def initialize(self, args): {}\n"
    assert "exited with status 3" in (await load_failure(write_model(leave.format("raise SystemExit(3)")))).message
    assert "exited with status 7" in (await load_failure(write_model(leave.format("os._exit(7)")))).message
    assert "was ended by SIGABRT" in (await load_failure(write_model(leave.format("os.abort()")))).message


async def test_hanging_initialize(write_model):
    """An initialize that does not return is given up after initialize-timeout-seconds; its process is gone."""
    source = write_model("import time\nclass TritonPythonModel:\n    def initialize(self, args): time.sleep(600)\n")
    began = time.monotonic()
    error = await load_failure(source, **{"initialize-timeout-seconds": "0.4"})
    assert error.message == "the process of model instance 'm_0_0' has not initialized its model within 0.4 s"
    assert time.monotonic() - began < 60  # and not until it returns


async def test_timeouts_must_be_numbers(write_model, tools):
    """A setting that is no number of seconds is refused by name."""
    for text in ("soon", "0", "-1", "nan"):
        with pytest.raises(InvalidArgument, match=f"stub-timeout-seconds={text} is not a number of seconds"):
            await PythonBackend().open(
                write_model(tools.identity), InstancePlace("m_0"), BackendHost({"stub-timeout-seconds": text})
            )


async def test_giving_up_a_load(write_model, tools):
    """A load that is cancelled ends its process."""
    source = write_model(
        """
        import os, time
        class TritonPythonModel:
            def initialize(self, args):
                open(os.path.join(args["model_repository"], "pid"), "w").write(str(os.getpid()))
                time.sleep(60)
        """
    )
    loading = asyncio.ensure_future(PythonBackend().open(source, InstancePlace("m_0"), BackendHost()))
    pid_file = source.folder / "pid"
    await tools.until(lambda: pid_file.exists() and pid_file.read_text())
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_arguments(serve):
    """initialize gets Triton's arguments, all of them text; get_model_dir and the import paths lead to the files."""
    model = await serve(
        """
        import json, os
        import numpy as np
        import triton_python_backend_utils as pb_utils
        import c_python_backend_utils
        class TritonPythonModel:
            def initialize(self, args):
                assert c_python_backend_utils.Tensor is pb_utils.Tensor
                assert os.path.dirname(__file__) == pb_utils.get_model_dir()
                self.args = args
            def execute(self, requests):
                text = json.dumps(self.args)
                return [pb_utils.InferenceResponse([pb_utils.Tensor("SAID", np.array([text], dtype=object))])]
        """,
        'output [ { name: "SAID" data_type: TYPE_STRING dims: [ 1 ] } ]\n'
        'parameters: { key: "k" value: { string_value: "v" } }\n',
    )
    (said,) = await model.ask()
    arguments = json.loads(said)
    config = json.loads(arguments.pop("model_config"))
    folder = arguments.pop("model_repository")
    assert (Path(folder) / "1").is_dir()
    assert arguments == {
        "model_instance_kind": "CPU",
        "model_instance_name": "m_0_0",
        "model_instance_device_id": "0",
        "model_version": "1",
        "model_name": "m",
    }
    assert (
        config["name"],
        config["max_batch_size"],
        config["output"][0]["dims"],
        config["parameters"]["k"]["string_value"],
    ) == ("m", 0, [1], "v")


async def test_files_beside_the_model(write_model, tools):
    """Modules in the version folder and in the model's folder can be imported."""
    source = write_model("from beside import A\nfrom above import B\n" + tools.identity)
    (source.version_folder / "beside.py").write_text("A = 1\n")
    (source.folder / "above.py").write_text("B = 1\n")
    instance = await PythonBackend().open(source, InstancePlace("m_0"), BackendHost())
    await instance.close()


async def test_the_server_is_not_importable(serve, tools):
    """A model's process sees none of the server but what it needs: nothing named so lies in site-packages."""
    checks = "import sys\nassert 'asyncio' not in sys.modules, 'start time'\nassert 'tritium.core' not in sys.modules\n"
    await serve(checks + tools.identity.strip())


async def test_finalize(serve, tmp_path):
    """Closing runs the model's finalize, after what was handed over, and then ends the process."""
    model = await serve(
        f"""
        import time
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def initialize(self, args):
                self.done = 0
            def execute(self, requests):
                time.sleep(0.02)
                self.done += 1
                return [pb_utils.InferenceResponse([]) for _ in requests]
            def finalize(self):
                open("{tmp_path}/finalized", "w").write(str(self.done))
        """
    )
    futures = [model.submit(model.request([0.0]))[0] for _ in range(5)]
    pid = model.instance.pid
    await asyncio.sleep(0)
    await model.instance.close()
    assert all(future.done() for future in futures)
    assert (tmp_path / "finalized").read_text() == "5"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_finalize_that_raises(serve, capfd):
    """An exception in finalize is logged; closing goes well."""
    model = await serve("class TritonPythonModel:\n    def finalize(self): raise ValueError('late')\n")
    await model.instance.close()
    assert "finalize failed: ValueError: late" in capfd.readouterr().out


async def test_ends_with_the_server(write_model, tools, tmp_path):
    """The process of a model dies with a server that is killed."""
    source = write_model(tools.identity)
    script = f"""
import asyncio, os, signal
from pathlib import Path
from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.python.backend import PythonBackend
from tritium.backends.python.interpreter import interpreter_of
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_text
async def main():
    config = from_proto(parse_text('name: "m" backend: "python"', "").message)
    source = ModelSource(config, Path("{source.folder}"), "1")
    instance = await PythonBackend().open(source, InstancePlace("m_0"), BackendHost())
    print(instance.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await server.communicate()
    assert server.returncode == -signal.SIGKILL
    await tools.until(lambda: tools.gone(int(out)))


async def test_auto_complete(write_model):
    """auto_complete_config fills the configuration in, in a process that is gone afterwards."""
    source = write_model(
        """
        class TritonPythonModel:
            @staticmethod
            def auto_complete_config(config):
                assert config.as_dict()["name"] == "m"
                config.add_input({"name": "IN", "data_type": "TYPE_INT32", "dims": [4], "optional": True})
                config.add_output({"name": "OUT", "data_type": "TYPE_STRING", "dims": [-1]})
                config.set_max_batch_size(8)
                config.set_dynamic_batching()
                config.set_model_transaction_policy({"decoupled": True})
                return config
        """,
        "",
    )
    done = await PythonBackend().complete(source.config, source.folder, "1")
    assert (done.max_batch_size, done.decoupled, done.backend) == (8, True, "python")
    assert [(i.name, i.datatype, i.dims, i.optional) for i in done.inputs.values()] == [("IN", "INT32", (4,), True)]
    assert [(o.name, o.datatype, o.dims) for o in done.outputs.values()] == [("OUT", "BYTES", (-1,))]
    assert done.proto.HasField("dynamic_batching")


COMPLETING = {
    "raises": (
        "raise ValueError('boom in auto_complete')",
        "ValueError: boom in auto_complete\n\nAt:\n  {file}(4): auto_complete_config\n",
    ),
    "returns nothing": (
        "pass",
        "auto_complete_config function in model 'm' must return a valid pb.ModelConfig object.",
    ),
    "contradicts": (
        "config.add_input({'name': 'INPUT0', 'data_type': 'TYPE_INT32', 'dims': [-1]})",
        "ValueError: unable to load model 'm', configuration expects datatype TYPE_FP32 for input 'INPUT0', model pro",
    ),
    "cannot be": (
        "config.add_input({'name': 'X', 'data_type': 'TYPE_NONE', 'dims': [1]}); return config",
        "auto_complete_config of model 'm' made a configuration that cannot be: ",
    ),
}


@pytest.mark.parametrize("case", COMPLETING)
async def test_auto_complete_that_fails(write_model, case):
    """What goes wrong in auto_complete_config is told as it would be by Triton."""
    body, expected = COMPLETING[case]
    source = write_model(
        f"class TritonPythonModel:\n    @staticmethod\n    def auto_complete_config(config):\n        {body}\n"
    )
    with pytest.raises(InferenceError) as caught:
        await PythonBackend().complete(source.config, source.folder, "1")
    assert caught.value.message.startswith(expected.format(file=source.version_folder / "model.py"))


async def test_auto_complete_without_a_process(write_model, tools):
    """A model that cannot have the hook costs no process; one that inherits it does, and is asked."""
    plain = write_model("import sys; sys.exit()\n" + tools.identity)
    assert plain.config is await PythonBackend().complete(plain.config, plain.folder, "1")
    (plain.version_folder / "base.py").write_text(
        "class Base:\n    @staticmethod\n    def auto_complete_config(c):\n"
        "        c.set_max_batch_size(3)\n        return c\n"
    )
    heir = write_model("import base\nclass TritonPythonModel(base.Base): pass\n")
    assert (await PythonBackend().complete(heir.config, heir.folder, "1")).max_batch_size == 3


def with_environment(path: str) -> str:
    return f'parameters: {{ key: "EXECUTION_ENV_PATH" value: {{ string_value: "{path}" }} }}\n'


async def test_environments(write_model, tools, tmp_path):
    """EXECUTION_ENV_PATH must be a folder with bin/python; what else it is, is told with what to do."""
    place = InstancePlace("m_0")
    for path, said in (
        ("/nowhere", "does not exist: /nowhere"),
        ("$$TRITON_MODEL_DIRECTORY/env.tar.gz", "cannot be unpacked"),
        ("1", "holds no interpreter"),
    ):
        source = write_model(tools.identity, tools.any_fp32 + with_environment(path))
        (source.folder / "env.tar.gz").write_bytes(b"")
        with pytest.raises(InvalidArgument, match=said):
            await PythonBackend().open(source, place, BackendHost())


@pytest.mark.parametrize("path", ["env", "$$TRITON_MODEL_DIRECTORY/env"])
async def test_an_environment_in_a_repository_that_is_given_by_a_relative_path(
    path, write_model, tools, tmp_path, monkeypatch
):
    """Its place is the same as by the whole path."""
    source = write_model(tools.identity, tools.any_fp32 + with_environment(path))
    (source.folder / "env" / "bin").mkdir(parents=True)
    (source.folder / "env" / "bin" / "python").symlink_to(INTERPRETER)
    monkeypatch.chdir(tmp_path)
    source = dataclasses.replace(source, folder=source.folder.relative_to(tmp_path))
    assert await interpreter_of(source) == f"{tmp_path}/{source.folder}/env/bin/python"


@pytest.mark.parametrize("entry", ["../../outside", "/tmp/tritium-outside"])  # where it must not land
async def test_a_packed_environment_stays_in_its_folder(entry, write_model, tools, tmp_path, monkeypatch):
    """An archive whose entries lead out of the folder is refused, or what leads out lands inside."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = write_model(tools.identity, tools.any_fp32 + with_environment("$$TRITON_MODEL_DIRECTORY/env.tar.gz"))
    with tarfile.open(source.folder / "env.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(entry), io.BytesIO())
    with pytest.raises(InvalidArgument, match=r"would write outside its folder|holds no interpreter"):
        await PythonBackend().open(source, InstancePlace("m_0"), BackendHost())
    assert {file.name for file in tmp_path.rglob("*outside*")} <= {"tritium-outside"}


async def test_a_packed_environment(write_model, tools, tmp_path, monkeypatch):
    """An archive is unpacked once, and again when another one stands in its place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = next(path for path in sys.path if path.endswith("site-packages"))
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec "{INTERPRETER}" "$@"\n')
    script.chmod(0o755)
    source = write_model(tools.identity, tools.any_fp32 + with_environment("$$TRITON_MODEL_DIRECTORY/env.tar.gz"))
    for count in (1, 1, 2):
        if count == 2 or not (source.folder / "env.tar.gz").exists():
            with tarfile.open(source.folder / "env.tar.gz", "w:gz") as archive:
                archive.add(script, "bin/python")
                archive.addfile(tarfile.TarInfo(f"made/{count}"), io.BytesIO())
        instance = await PythonBackend().open(source, InstancePlace("m_0"), BackendHost())
        await instance.close()
        assert len(list((tmp_path / "cache" / "tritium" / "environments").iterdir())) == count


async def test_an_environment_without_msgspec(write_model, tools, tmp_path):
    """An interpreter that lacks what a model's process needs is told by name, with the command that installs it."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    python = tmp_path / "env" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{INTERPRETER}" -I -S "$@"\n')
    python.chmod(0o755)
    source = write_model(tools.identity, tools.any_fp32 + with_environment(f"{tmp_path}/env"))
    error = await load_failure(source)
    assert "cannot run models: No module named 'numpy'" in error.message or "msgspec" in error.message
    assert "-m pip install numpy msgspec" in error.message


async def test_another_environment(write_model, tmp_path):
    """A model runs in the interpreter it names, which needs numpy and msgspec and nothing of Tritium."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    python = tmp_path / "env" / "bin" / "python"
    site = next(path for path in sys.path if path.endswith("site-packages"))
    (tmp_path / "packages").mkdir()
    for package in ("numpy", "msgspec", "numpy.libs"):
        (tmp_path / "packages" / package).symlink_to(f"{site}/{package}")
    python.write_text(f'#!/bin/sh\nMARK=env PYTHONPATH={tmp_path}/packages exec "{INTERPRETER}" -s -S "$@"\n')
    python.chmod(0o755)
    source = write_model(
        f"""
        import os
        assert os.environ["MARK"] == "env"
        assert os.path.samefile(os.environ["PATH"].split(":")[0], "{tmp_path}/env/bin")
        class TritonPythonModel: pass
        """,
        with_environment("$$TRITON_MODEL_DIRECTORY/../env"),
    )
    instance = await PythonBackend().open(source, InstancePlace("m_0"), BackendHost())
    await instance.close()
