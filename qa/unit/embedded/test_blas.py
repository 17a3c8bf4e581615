"""NumPy's matrix products on one thread."""

import subprocess
import sys

PROBE = """
import ctypes, re
from pathlib import Path
import numpy
from tritium.backends.embedded.blas import use_one_thread
assert use_one_thread()
(path,) = set(re.findall(r"/\\S*openblas\\S*\\.so\\S*", Path("/proc/self/maps").read_text()))
print(ctypes.CDLL(path).scipy_openblas_get_num_threads64_())
"""


def test_openblas_is_brought_down_to_one_thread() -> None:
    """Also when it was told to start with more, and is loaded already."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE], env={"OPENBLAS_NUM_THREADS": "4"}, capture_output=True, text=True, check=False
    )
    assert (result.stdout.strip(), result.stderr) == ("1", "")
