"""Model files in the server's own process, by the thousand."""

import statistics
import sys
import time
from pathlib import Path

from tritium.backends.python.frames import Load
from tritium.backends.python.local.modules import forget_model, import_model


class _Nothing:
    """A runtime of which the models here ask nothing."""


def test_the_last_of_many_models_is_imported_as_fast_as_the_first(tmp_path: Path) -> None:
    """Neither importing nor forgetting a model looks at all the others: 1,000 models once took 20 s for that."""
    before = list(sys.path)
    loads, modules, costs = [], [], []
    for number in range(600):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.py").write_text(f"import beside\nNUMBER = {number}, beside.NUMBER\n")
        (folder / "beside.py").write_text(f"NUMBER = {number}\n")
        model = str(folder / "model.py")
        loads.append(Load(str(folder), model, "model", [str(folder)], {}, {}, decoupled=False))
    for load in loads:
        began = time.thread_time()
        modules.append(import_model(load, _Nothing()))  # type: ignore[arg-type]
        costs.append(time.thread_time() - began)
    assert [module.NUMBER for module in modules] == [(number, number) for number in range(600)]
    assert statistics.median(costs[-100:]) < 5 * statistics.median(costs[:100])
    for load, module in zip(loads, modules, strict=True):
        forget_model(module, load.import_paths)
    assert sys.path == before
    assert "beside" not in sys.modules
