"""One thread for NumPy's matrix products.

OpenBLAS would start one a core, and they spin while they wait: beside other workers on the same cores the products of
a small model then take ten times as long. It reads OPENBLAS_NUM_THREADS only while it is loaded, which is long past.
"""

import ctypes
import re
from pathlib import Path

_SETTERS = ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads")


def use_one_thread() -> bool:
    """Set the OpenBLAS that NumPy has loaded to one thread; return False where there is no such library."""
    loaded = set(re.findall(r"/\S*openblas\S*\.so\S*", Path("/proc/self/maps").read_text()))
    found = False
    for path in loaded:
        library = ctypes.CDLL(path)
        for name in _SETTERS:
            if hasattr(library, name):
                getattr(library, name)(1)
                found = True
                break
    return found
