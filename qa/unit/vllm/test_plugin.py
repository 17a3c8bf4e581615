"""What vLLM's processes are given before vLLM runs in them."""

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tritium.backends.vllm import plugin


class Libc:
    """Takes calls down."""

    def __init__(self, result=0) -> None:
        self.calls = []
        self.result = result

    def syscall(self, *numbers) -> int:
        self.calls.append(numbers)
        return self.result

    def prctl(self, *numbers) -> int:
        self.calls.append(numbers)
        return self.result


def test_asks_for_amx(monkeypatch):
    """The tiles are asked for on x86-64 only, and a kernel or processor without them is no failure."""
    monkeypatch.setattr(plugin.platform, "machine", lambda: "x86_64")
    libc = Libc()
    assert plugin.ask_for_amx(libc)
    assert libc.calls == [(158, 0x1023, 18)]
    assert not plugin.ask_for_amx(Libc(-1))
    monkeypatch.setattr(plugin.platform, "machine", lambda: "aarch64")
    libc = Libc()
    assert not plugin.ask_for_amx(libc)
    assert libc.calls == []


def test_only_a_worker_s_children_die_with_it(monkeypatch):
    """The engine's processes are tied to the worker; the worker itself, and vLLM used otherwise, are not."""
    for value, calls in (
        ("", []),
        (str(os.getpid()), []),
        ("1", [(1, signal.SIGTERM, 0, 0, 0)]),
    ):
        monkeypatch.setenv(plugin.WORKER_VARIABLE, value)
        libc = Libc()
        plugin.die_with_parent(libc)
        assert calls == libc.calls


@pytest.mark.skipif(
    importlib.util.find_spec("nixl_cu12") is None, reason="NIXL is not installed: make test installs it"
)
def test_nixl_sleeps_and_imports_without_its_cuda():
    """In a process of its own: NIXL imports although cuda-python 13 is there, and its idle agent burns no core."""
    script = """
        import sys, types
        bindings = types.ModuleType("cuda.bindings"); bindings.__version__ = "13.0.0"
        sys.modules["cuda.bindings"] = bindings
        from tritium.backends.vllm.plugin import prepare_nixl
        prepare_nixl(); prepare_nixl()
        from nixl._api import nixl_agent, nixl_agent_config
        import time
        agent = nixl_agent("t", nixl_agent_config(backends=["UCX"]))
        began = time.process_time(); time.sleep(1.0)
        print("spent", time.process_time() - began)
    """
    environment = {**os.environ, "NIXL_LOG_LEVEL": "ERROR"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, env=environment
    )
    spent = float(result.stdout.split("spent")[1])
    assert spent < 0.3


@pytest.mark.vllm
def test_vllm_finds_the_plugin():
    """The entry point by which vLLM loads it in every process of its own is there and callable."""
    (found,) = importlib.metadata.entry_points(group="vllm.general_plugins", name="tritium")
    assert found.load() is plugin.register
