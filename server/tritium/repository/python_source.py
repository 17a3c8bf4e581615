"""What can be said of a model.py without running it: whether it is Python, and whether it has the class."""

import ast
from pathlib import Path

from tritium.compat.config.problem import Problem, Stage

MODEL_CLASS = "TritonPythonModel"


def check_source(file: Path) -> Problem | None:
    """Return what would stop the file from being imported as a model; the message is how loading it would fail."""
    source = file.read_bytes()
    try:
        tree = ast.parse(source, str(file))
    except SyntaxError as error:
        line, column = error.lineno or 0, error.offset or 1
        message = f"{type(error).__name__}: {error.msg} ({file.name}, line {line})"
        text = (error.text or "").rstrip("\n")
        reason = f"{message}\n\nAt:\n  {file}({line}): <module>\n"
        return Problem(str(file), line, max(1, column), 1, message, "", text, Stage.LOAD, "Internal", reason)
    except (ValueError, RecursionError, MemoryError) as error:
        message = f"{type(error).__name__}: {error} ({file.name})"
        return Problem(str(file), 0, 0, 0, message, "", "", Stage.LOAD, "Internal")
    if MODEL_CLASS.encode() not in source and not _imports_everything(tree):
        message = f"AttributeError: module '{file.parent.name}.{file.stem}' has no attribute '{MODEL_CLASS}'"
        hint = f"write class {MODEL_CLASS}: with def execute(self, requests)"
        return Problem(str(file), 0, 0, 0, message, hint, "", Stage.LOAD, "Internal", f"{message}: {file}")
    return None


def _imports_everything(tree: ast.Module) -> bool:
    """Tell whether the class may come from a module that only running the file would open."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return any(alias.name == "*" for node in imports for alias in node.names)
