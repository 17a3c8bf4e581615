"""How a worker takes a role that its engine takes only as it starts: it becomes its own program anew."""

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from tritium.backends.engine import Role

ROLE_BEFORE = "_TRITIUM_ROLE_BEFORE"
"""Tells a worker that starts itself anew in another role which it had, and has again where that fails."""


def start_anew(role: Role, before: str, environment: Mapping[str, str]) -> NoReturn:
    """Become the program that was started, in another role: for who watches over it, it is the same process."""
    arguments = sys.orig_argv[1:]
    if arguments[-1].startswith("--role="):
        arguments.pop()
    # Of an option that is given twice the last counts.
    command = [sys.executable, *arguments, f"--role={role}"]
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.execve(sys.executable, command, {**environment, ROLE_BEFORE: before})  # noqa: S606  it is this program
