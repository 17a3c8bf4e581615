"""Language engines by name, and the words for what they raise."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from tritium.backends.engine import EngineSource, LanguageEngine
from tritium.core.errors import InferenceError, NotFound

GROUP = "tritium.engines"
"""The entry points that packages add engines by."""


def find_engine(name: str) -> Callable[[EngineSource], LanguageEngine]:
    """Find an engine by its entry point, or by "package.module:Class".

    Raises:
        NotFound: no such engine is installed.
        ImportError, AttributeError: it is, and what it needs is not.
    """
    engines = entry_points(group=GROUP)
    if name in engines.names:
        point = engines[name]
    elif ":" in name:
        point = EntryPoint(name, name, GROUP)
    else:
        raise NotFound(f"no engine '{name}' is installed", hint=f"there are {', '.join(sorted(engines.names))}")
    engine: Callable[[EngineSource], LanguageEngine] = point.load()
    return engine


def words_of(error: Exception) -> str:
    """Return what an operator or a client is told of what an engine raised."""
    if isinstance(error, InferenceError):
        return error.told
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
