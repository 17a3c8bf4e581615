"""Where a model's process begins. Run by path, by whichever interpreter the model names.

That interpreter need not have Tritium installed: the two portions that a model's process needs are put together
here from where the server has them, and nothing else of the server becomes importable.
"""

import ctypes
import importlib.machinery
import importlib.util
import os
import signal
import socket
import struct
import sys
import types

PR_SET_PDEATHSIG = 1
COMPILED = "tritium__mypyc"


def main() -> None:
    """Join the server at the other end of an inherited socket. Arguments: see `interpreter.command`."""
    parent, sock_fd, inbound, outbound = (int(argument) for argument in sys.argv[2:6])
    portions = sys.argv[6:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the server ended before the model's process began")
    # The interpreter put this file's folder first, where a model would find `host` and `pump`.
    if sys.path[0] == os.path.dirname(__file__):  # noqa: PTH120  # pathlib costs the start 5 ms
        del sys.path[0]
    del sys.argv[1:]
    # What the model prints is read by people, also through a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text stream at this point
    for descriptor in (sock_fd, inbound, outbound):
        os.set_inheritable(descriptor, False)
    sock = socket.socket(fileno=sock_fd)
    tritium = types.ModuleType("tritium")
    tritium.__path__ = portions
    sys.modules["tritium"] = tritium
    try:
        share_compiled(portions)
        from tritium.backends.python.process.service import Service  # noqa: PLC0415  # importable only from here on
    except ImportError as error:
        text = (
            f"the interpreter {sys.executable} (Python {sys.version.split()[0]}) cannot run models: {error}. "
            f"Install numpy and msgspec there: {sys.executable} -m pip install numpy msgspec"
        ).encode()
        sock.sendall(struct.pack("<I", len(text) + 1) + b"!" + text)
        sys.exit(1)
    Service(sock, inbound, outbound).run()


def share_compiled(portions: list[str]) -> None:
    """Import what compiled modules of Tritium have in common, for an interpreter that has not Tritium on its path.

    mypyc puts it into one extension beside the package; one for another version of Python is not looked at, and then
    neither are the compiled modules.

    Raises:
        ImportError: this interpreter cannot load it.
    """
    if importlib.util.find_spec(COMPILED) is not None:
        return
    for portion in portions:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = os.path.join(os.path.dirname(portion), COMPILED + suffix)  # noqa: PTH118, PTH120  # as above
            spec = importlib.util.spec_from_file_location(COMPILED, path)
            if spec is not None and spec.loader is not None and os.path.exists(path):  # noqa: PTH110  # as above
                sys.modules[COMPILED] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(sys.modules[COMPILED])
                return


if __name__ == "__main__":
    main()
