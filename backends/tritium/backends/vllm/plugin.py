"""What every process of vLLM needs from us; vLLM calls `register` through its entry point `vllm.general_plugins`.

Each step is a no-op where it does not apply. vLLM may call it more than once in a process.
"""

import ctypes
import importlib
import os
import platform
import signal
import sys
from typing import Any

TRANSFER_VARIABLE = "TRITIUM_KV_TRANSFER"
"""Set to "nixl" for the processes of a worker whose KV moves by NIXL."""

WORKER_VARIABLE = "TRITIUM_WORKER_PID"
"""The process id of the worker whose engine processes these are."""

PROGRESS_DELAY_US = 100
"""How long NIXL's progress thread sleeps between looks; its own 0 burns a core per idle worker."""

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
        calm_nixl()


def ask_for_amx(libc: ctypes.CDLL) -> bool:
    """Ask the kernel for AMX tiles and tell whether they may be used.

    vLLM's CPU attention uses them without asking; its first request is then killed by SIGILL. The permission is
    per process and lost at exec. Source: Linux, Documentation/arch/x86/xstate.rst.
    """
    if platform.machine() != "x86_64":
        return False
    return bool(libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0)


def die_with_parent(libc: ctypes.CDLL) -> None:
    """Have an engine process killed when the process that started it dies, however it dies.

    The worker itself is left out: it ends in order when its server goes.
    """
    worker = os.environ.get(WORKER_VARIABLE, "")
    if worker and worker != str(os.getpid()):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def calm_nixl() -> None:
    """Let NIXL's progress thread sleep between looks: wrap the binding's agent, whose delay Python cannot set."""
    # Must precede the first import of NIXL, which reads it; vLLM sets the same value when it is the first.
    os.environ.setdefault("UCX_RCACHE_MAX_UNRELEASED", "1024")
    for package in ("nixl_cu12", "nixl_cu13"):
        try:
            bindings: Any = importlib.import_module(f"{package}._bindings")
        except ImportError:
            continue
        agent: Any = bindings.nixlAgent
        if getattr(agent, "calmed", False):
            continue

        class CalmAgent(agent):  # type: ignore[misc]  # a class of a C extension, known only at run time
            calmed = True

            def __init__(self, name: str, config: Any, _base: Any = agent) -> None:
                config.pthrDelay = PROGRESS_DELAY_US
                _base.__init__(self, name, config)

        bindings.nixlAgent = CalmAgent
