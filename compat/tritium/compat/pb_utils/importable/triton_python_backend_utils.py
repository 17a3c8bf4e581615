"""The name that models import, for processes that a model starts: workers of multiprocessing's spawn and the like.

In the model's own process `tritium.compat.pb_utils` stands under this name before the model is imported, and this
file is not run. Elsewhere it finds the package from where it lies itself, so the interpreter need not have Tritium.
"""

# ruff: noqa: INP001 - a folder for sys.path, not a package

import sys
import types
from pathlib import Path

if "tritium.compat.pb_utils" not in sys.modules:
    try:
        import tritium.compat.pb_utils  # noqa: F401  # what matters is that it can be
    except ImportError:
        namespace = types.ModuleType("tritium")
        namespace.__path__ = [str(Path(__file__).parents[3])]
        sys.modules["tritium"] = namespace

from tritium.compat import pb_utils

sys.modules[__name__] = pb_utils
