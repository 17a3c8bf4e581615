"""A plan as a file: written whole or not at all, read back with a clear word about what is wrong with it."""

import json
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import msgspec

from tritium.migration.below import leads_out
from tritium.migration.planning.plan import FORMAT, GONE, Plan
from tritium.migration.survey import SurveyError, survey
from tritium.migration.text.source import encode


class BadPlan(Exception):
    """A file that is no plan, or one of another version."""


class StalePlan(Exception):
    """The deployment is no longer what the plan was made for; `changed` says which files, and how."""

    def __init__(self, changed: list[str]) -> None:
        shown = "".join(f"\n  {one}" for one in changed[:20])
        more = f"\n  and {len(changed) - 20} more" if len(changed) > 20 else ""
        super().__init__(f"the deployment has changed since the plan was made; make it again:{shown}{more}")
        self.changed = changed


def save(plan: Plan, path: Path) -> None:
    """Write a plan; text that is no UTF-8 is escaped, so every byte of the files survives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(path.name + ".part")
    written.write_text(json.dumps(msgspec.to_builtins(plan), indent=1) + "\n", encoding="ascii")
    written.replace(path)


def load(path: Path) -> Plan:
    """Read a plan.

    Raises:
        BadPlan: it cannot be read, or another version of dynamo-migrate made it.
    """
    try:
        plan = msgspec.convert(json.loads(path.read_bytes()), Plan)
    except OSError as error:
        raise BadPlan(f"{path}: {error.strerror}; make a plan with: dynamo-migrate plan PATH") from error
    except (ValueError, RecursionError) as error:
        raise BadPlan(f"{path} is no plan of dynamo-migrate: {error}") from error
    if plan.format != FORMAT:
        raise BadPlan(f"{path} has format {plan.format}, this dynamo-migrate reads {FORMAT}: make the plan again")
    for name in (*plan.results, *plan.inputs, *plan.pieces, *plan.creates):
        if leads_out(name):
            raise BadPlan(f"{path} names a file outside of the deployment: {name!r}")
    return plan


def digest(raw: bytes) -> str:
    """Return the SHA-256 of a file's bytes."""
    return sha256(raw).hexdigest()


def inputs(root: Path, aside: Iterable[str] = ()) -> dict[str, str]:
    """Return the digest of every file below `root` that a plan is made of."""
    sources = survey(root, aside=frozenset(Path(one) for one in aside)).sources
    return {str(path): digest(encode(source.text)) for path, source in sources.items()}


def is_done(plan: Plan, root: Path) -> bool:
    """Tell whether a deployment is already as a plan makes it, every file that was read included."""
    expected = plan.inputs | plan.results
    return all(_digest_of(root / path) == now for path, now in expected.items())


def _digest_of(path: Path) -> str:
    return digest(path.read_bytes()) if path.is_file() else GONE


def check_fresh(plan: Plan, root: Path) -> None:
    """Hold the deployment against what the plan was made for.

    Raises:
        StalePlan: a file was changed, has gone, is new, or stands where the plan makes one.
    """
    try:
        now = inputs(root, plan.aside)
        # What is taken away need not be text, so that it was no part of the survey.
        now |= {path: digest((root / path).read_bytes()) for path in plan.removes if (root / path).is_file()}
    except (SurveyError, OSError) as error:
        raise StalePlan([str(error)]) from error
    changed = [
        f"{path}: {'has gone' if path not in now else 'was changed'}"
        for path, known in plan.inputs.items()
        if now.get(path) != known
    ]
    changed += [f"{path}: is new" for path in now if path not in plan.inputs]
    changed += [f"{path}: is already there" for path in plan.creates if os.path.lexists(root / path)]
    if changed:
        raise StalePlan(sorted(set(changed)))
