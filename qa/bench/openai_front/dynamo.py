"""NVIDIA Dynamo on this machine, to measure beside: its frontend and its mocker from their wheels, nothing else of it.

`pip install ai-dynamo` fails (one of its dependencies is an empty shell on the package index); these parts run without.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qa.bench.openai_front.server import Server, free_port, wait_for

VERSION = "1.6.1"
_WHEELS = [f"ai-dynamo=={VERSION}", f"ai-dynamo-runtime=={VERSION}"]
_LIBRARIES = ["aiohttp", "kubernetes<33", "msgspec", "prometheus-client", "pyzmq", "redis", "tqdm", "transformers"]
_LIBRARIES += ["zstandard", "uvloop", "pydantic", "tritonclient[grpc]", "tokenizers"]


def set_up(folder: Path) -> None:
    """Install Dynamo into `folder`, once.

    Raises:
        CalledProcessError: pip could not.
    """
    if (folder / "ready").exists():
        return
    print(f"[bench] installing Dynamo {VERSION} into {folder}", file=sys.stderr)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *_WHEELS], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *_LIBRARIES], check=True)
    (folder / "ready").touch()


@dataclass(frozen=True, slots=True)
class Mocker:
    """Its mock workers: by default as fast as they go."""

    speedup: float = 1e6
    block_tokens: int = 64
    blocks: int = 16384


def start(
    folder: Path,
    model: Path,
    name: str,
    workers: int,
    mode: str,
    scratch: Path,
    *,
    mocker: Mocker = Mocker(),
    options: Sequence[str] = (),
) -> Server:
    """Start a frontend with the tokenizer it documents as its fastest, and mock workers; `options` are the frontend's.

    Raises:
        RuntimeError: it ended, or was not ready within two minutes; the message holds the end of its logs.
    """
    store = scratch / "dynamo-store"
    shutil.rmtree(store, ignore_errors=True)
    loopback = ("DYN_EVENT_PLANE_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_TCP_RPC_HOST", "DYN_HTTP_HOST")
    environment = {**os.environ, **dict.fromkeys((*loopback, "DYN_SYSTEM_HOST"), "127.0.0.1")}
    environment |= {"DYN_FILE_KV": str(store), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    python, port = str(folder / "venv" / "bin" / "python"), free_port()
    workers_line = [python, "-m", "dynamo.mocker", "--model-path", str(model), "--model-name", name]
    workers_line += ["--discovery-backend", "file", "--num-workers", str(workers)]
    workers_line += ["--speedup-ratio", f"{mocker.speedup:g}", "--block-size", str(mocker.block_tokens)]
    workers_line += ["--num-gpu-blocks-override", str(mocker.blocks)]
    front = [python, "-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", str(port)]
    front += ["--discovery-backend", "file", "--router-mode", mode, "--tokenizer", "fastokens", *options]
    log = scratch / "dynamo.log"
    with log.open("wb") as out:
        engine = subprocess.Popen(workers_line, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            process = subprocess.Popen(front, stdout=out, stderr=subprocess.STDOUT, env=environment)
        except OSError:
            engine.kill()
            raise
    server = Server(f"Dynamo {VERSION} ({mode})", process, port, [engine])
    return wait_for(server, name, log, 120)
