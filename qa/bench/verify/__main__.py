"""`python -m qa.bench.verify`: five kinds of deployment on a real Triton and on Tritium, compared by dynamo-migrate.

The reference is a Triton 2.51 with the python backend only (qa/bench/kserve installs it): on its side python models
that compute the same stand in for what it has no backend for, and a model with vllm_backend's tensors for vllm, which
asks `vllm serve` (--engine=vllm) or this machine's embedded engine. Exits with 1 where anything differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from qa.bench.kserve import reference
from qa.bench.kserve.server import Server, free_ports, start
from qa.bench.verify import deployments

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".bench" / "triton"


def main() -> int:
    """Serve, compare over both protocols, and print the reports."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.verify", description=__doc__)
    parser.add_argument("--engine", choices=("embedded", "vllm"), default="embedded")
    parser.add_argument("--format", default="text", help="of the reports: text, markdown, json or csv")
    arguments = parser.parse_args()
    reference.set_up(FOLDER)
    with tempfile.TemporaryDirectory() as scratch:
        return compare(Path(scratch), arguments.engine, arguments.format)


def compare(scratch: Path, engine: str, form: str) -> int:
    """Start what is needed, compare, and end everything."""
    running: list[Server] = []
    program = Path(sys.executable).parent
    try:
        language, completions = start_language_model(scratch, engine)
        running.append(language)
        deployments.write(scratch / "old", scratch / "new", completions)
        http, grpc, metrics = free_ports(3)
        line, environment = reference.command(FOLDER, scratch / "old", http, grpc, metrics)
        running.append(old := start("Triton", line, environment, http, grpc, scratch / "old.log"))
        http, grpc, metrics = free_ports(3)
        line = tritium(scratch / "new", engine, http, grpc, metrics, 0)
        running.append(new := start("Tritium", line, dict(os.environ), http, grpc, scratch / "new.log"))
        worst = 0
        for protocol in ("http", "grpc"):
            urls = [f"{protocol}://127.0.0.1:{getattr(side, protocol)}" for side in (old, new)]
            done = subprocess.run([program / "dynamo-migrate", "verify", *urls, f"--format={form}"], check=False)
            worst = max(worst, done.returncode)
        return worst
    finally:
        for server in reversed(running):
            server.stop()


def start_language_model(scratch: Path, engine: str) -> tuple[Server, str]:
    """Start what the stand-in of vllm_backend asks, vLLM's own server or Tritium's; return it with its URL."""
    http, grpc, metrics, front = free_ports(4)
    chat = deployments.SAMPLES / "tiny_chat"
    log = scratch / "language.log"
    if engine == "vllm":
        line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(chat / "1" / "tiny_chat")]
        line += ["--served-model-name=tiny_chat", "--host=127.0.0.1", f"--port={front}", *deployments.ENGINE_ARGUMENTS]
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0"}
        server = start("vLLM", line, environment, front, grpc, log, ready="/health", wait_s=600)
    else:
        deployments.link(chat, scratch / "language" / "tiny_chat")
        line = tritium(scratch / "language", engine, http, grpc, metrics, front)
        server = start("language model", line, dict(os.environ), http, grpc, log)
    return server, f"http://127.0.0.1:{front}/v1/completions"


def tritium(repository: Path, engine: str, http: int, grpc: int, metrics: int, front: int) -> list[str]:
    """Return the command that serves a repository on these ports."""
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}", f"--openai-port={front}"]
    program = str(Path(sys.executable).with_name("tritium"))
    return [program, "serve", str(repository), f"--engine={engine}", *ports]


if __name__ == "__main__":
    sys.exit(main())
