"""Standard streams as a server needs them: there, whatever it was started by."""

import os
import sys


def complete_streams() -> None:
    """Open /dev/null for each of the three that is closed.

    Otherwise the next socket would get its number, which models' processes and the event loop take for the stream.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is given: this one, for those below it are open.
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
