"""What every process of vLLM needs from us; vLLM calls `register` through its entry point `vllm.general_plugins`.

Each step is a no-op where it does not apply. vLLM may call it more than once in a process.
"""

import ctypes
import importlib
import importlib.util
import os
import platform
import signal
import sys

from tritium.backends.vllm.resume import take_up_grammars
from tritium.kv.nixl_package import BUILDS, calm

TRANSFER_VARIABLE = "TRITIUM_KV_TRANSFER"
"""Set to "nixl" for the processes of a worker whose KV moves by NIXL."""

WORKER_VARIABLE = "TRITIUM_WORKER_PID"
"""The process id of the worker whose engine processes these are."""

_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18
_PR_SET_PDEATHSIG = 1


def register() -> None:
    """Prepare this process for vLLM."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    ask_for_amx(libc)
    die_with_parent(libc)
    if os.environ.get(TRANSFER_VARIABLE) == "nixl":
        prepare_nixl()
    # The process of the engine has loaded it by now; no other needs it.
    if (structured := sys.modules.get("vllm.v1.structured_output")) is not None:
        take_up_grammars(structured.StructuredOutputManager)


def ask_for_amx(libc: ctypes.CDLL) -> bool:
    """Ask the kernel for AMX tiles and tell whether they may be used.

    vLLM's CPU attention uses them without asking; its first request is then killed by SIGILL. The permission is
    per process and lost at exec. Source: Linux, Documentation/arch/x86/xstate.rst.
    """
    if platform.machine() != "x86_64":
        return False
    return bool(libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0)


def die_with_parent(libc: ctypes.CDLL) -> None:
    """Have an engine process told to end when the process that started it dies, however it dies.

    SIGTERM, so that it still frees its shared memory. The worker itself is left out: its server's end ends it.
    """
    worker = os.environ.get(WORKER_VARIABLE, "")
    if worker and worker != str(os.getpid()):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def prepare_nixl() -> None:
    """Make NIXL importable and calm; its binding is imported here, so call this only where NIXL will be used."""
    # Must precede the first import of NIXL, which reads it; vLLM sets the same value when it is the first.
    os.environ.setdefault("UCX_RCACHE_MAX_UNRELEASED", "1024")
    specs = {name: importlib.util.find_spec(name) for name in BUILDS}
    installed = [name for name, spec in specs.items() if spec is not None and spec.name == name]
    for name in installed:
        calm(importlib.import_module(f"{name}._bindings"))
    if installed:
        # The `nixl` package picks a build by whichever CUDA library it sees, also where there is no GPU (cuda-python
        # comes with tritonclient[all]), and gives up when that one is missing. Any build moves host memory.
        for name in set(BUILDS) - set(installed):
            sys.modules.setdefault(name, importlib.import_module(installed[0]))
