"""A real Triton on this machine, from two wheels: the server of nvidia-pytriton, the load generator of tritonclient.

Facts that took a while to find: the python backend's stub must lie beside the backend for the interpreter's version;
it takes its prefix from the first python3 on PATH and ignores PYTHONPATH; with numpy 2 it answers empty outputs.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

SERVER_WHEEL = "nvidia-pytriton==0.7.0"
LOAD_WHEEL = "tritonclient==2.48.0"


class CannotSetUp(Exception):
    """The reference server cannot be had here."""


def set_up(folder: Path) -> None:
    """Install Triton 2.51 and perf_analyzer 2.48 into `folder`, once (a few minutes, 1 GB)."""
    if (folder / "ready").exists():
        return
    if sys.version_info[:2] != (3, 11):
        raise CannotSetUp("the reference's python backend stub is for Python 3.11: make bench PYTHON=python3.11")
    print(f"[bench] installing a real Triton into {folder}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    _run(sys.executable, "-m", "venv", str(folder / "venv"))
    _run(str(python), "-m", "pip", "install", "--quiet", SERVER_WHEEL, "numpy<2")
    home = _home(folder)
    stub = home / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    placed = home / "backends" / "python" / stub.name
    shutil.copy(stub, placed)
    for binary in (placed, home / "bin" / "tritonserver"):
        binary.chmod(0o755)
    _unpack_load_generator(folder, python)
    (folder / "ready").touch()


def _unpack_load_generator(folder: Path, python: Path) -> None:
    wheels, library = folder / "wheels", folder / "lib"
    _run(str(python), "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(wheels), LOAD_WHEEL)
    with zipfile.ZipFile(next(wheels.glob("tritonclient-*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith("/perf_analyzer"))
        (folder / "perf_analyzer").write_bytes(wheel.read(member))
    (folder / "perf_analyzer").chmod(0o755)
    # perf_analyzer wants two libraries that the server's wheel carries under hashed names.
    library.mkdir(exist_ok=True)
    bundled = _home(folder).parents[1] / "nvidia_pytriton.libs"
    for pattern, name in (("libb64-*.so.0d", "libb64.so.0d"), ("libcudart-*.so.12.*", "libcudart.so.12")):
        link = library / name
        link.unlink(missing_ok=True)
        link.symlink_to(next(bundled.glob(pattern)))


def command(folder: Path, repository: Path, http: int, grpc: int, metrics: int) -> tuple[list[str], dict[str, str]]:
    """Return the command line and environment that start the reference on loopback ports."""
    home = _home(folder)
    line = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={home / 'backends'}",
        f"--cache-directory={home / 'caches'}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
    ]
    libraries = _ask(folder, "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
    path = f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}"
    return line, {**os.environ, "PATH": path, "LD_LIBRARY_PATH": libraries}


def perf_analyzer(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the load generator's command and environment."""
    return [str(folder / "perf_analyzer")], {**os.environ, "LD_LIBRARY_PATH": str(folder / "lib")}


def _home(folder: Path) -> Path:
    site = _ask(folder, "import sysconfig; print(sysconfig.get_path('purelib'))")
    return Path(site) / "pytriton" / "tritonserver"


def _ask(folder: Path, code: str) -> str:
    return subprocess.check_output([str(folder / "venv" / "bin" / "python"), "-c", code], text=True).strip()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotSetUp(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
