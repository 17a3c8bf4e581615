"""All rules, those of other packages included, in the order of their ids."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points

from tritium.migration.rules import calling, launches, models, watching
from tritium.migration.rules.rule import Rule

GROUP = "tritium.migration.rules"
"""The entry point group in which other packages name their rules."""

OWN: tuple[type[Rule], ...] = (*launches.RULES, *models.RULES, *watching.RULES, *calling.RULES)


class BadRule(Exception):
    """An entry point that names no rule."""


@cache
def rules() -> tuple[Rule, ...]:
    """Return an instance of every rule.

    Raises:
        BadRule: an entry point cannot be loaded, is no rule, or takes an id that is another's.
    """
    found: dict[str, Rule] = {}
    for kind in (*OWN, *_added()):
        if kind.id in found:
            raise BadRule(f"two rules are called {kind.id}: {type(found[kind.id]).__name__} and {kind.__name__}")
        found[kind.id] = kind()
    return tuple(found[name] for name in sorted(found))


def rule(name: str) -> Rule | None:
    """Return the rule of an id, in any case; None where there is none."""
    return next((one for one in rules() if one.id == name.upper()), None)


def _added() -> Iterator[type[Rule]]:
    for entry in entry_points(group=GROUP):
        try:
            kind = entry.load()
        except (ImportError, AttributeError) as error:
            raise BadRule(f"the rule {entry.name} ({entry.value}) cannot be loaded: {error}") from error
        if not (isinstance(kind, type) and issubclass(kind, Rule)):
            raise BadRule(f"the rule {entry.name} ({entry.value}) is no subclass of tritium.migration.rules.rule.Rule")
        yield kind
