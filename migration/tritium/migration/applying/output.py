"""A plan carried out into a folder of its own: a whole copy of the deployment, with the plan's files in it."""

import shutil
from pathlib import Path

from tritium.migration.applying.disk import remove_empty, replace
from tritium.migration.applying.in_place import emptied, written
from tritium.migration.applying.journal import FOLDER, digest_of
from tritium.migration.applying.place import Refused, alone, check_places
from tritium.migration.planning.plan import GONE, Plan
from tritium.migration.planning.saved import check_fresh, is_done


def apply_to(plan: Plan, root: Path, output: Path, *, only_changed: bool = False) -> list[str]:
    """Write the deployment as it will be into `output`, and return which files the plan wrote there.

    All of it is copied (`only_changed`: just the plan's files), into a folder beside it that takes the name last.
    Where all files of the plan are there already, in `output` or since it was applied in place, nothing is done.

    Raises:
        Refused: `output` lies in the deployment, or holds something else; or a file of the plan lies elsewhere.
        StalePlan: the deployment has changed since the plan was made.
    """
    with alone(root):
        return _apply(plan, root, output, only_changed=only_changed)


def _apply(plan: Plan, root: Path, output: Path, *, only_changed: bool) -> list[str]:
    check_places(root, [*plan.results, *plan.creates])
    if plan.results and is_done(plan, root):
        return []
    check_fresh(plan, root)
    home, there = root.resolve(), output.resolve()
    if there == home or home in there.parents or there in home.parents:
        raise Refused(f"{output} must lie beside the deployment, neither in it nor around it; --in-place writes there")
    if output.exists():
        expected = plan.results or plan.inputs
        if output.is_dir() and expected and all(digest_of(output / path) == now for path, now in expected.items()):
            return []
        if not output.is_dir() or any(output.iterdir()):
            raise Refused(f"{output} is there already and holds something else; name another by -o, or remove it")
    part = output.with_name(f".{output.name}.dynamo-migrate")
    if part.exists():
        shutil.rmtree(part)
    if only_changed:
        part.mkdir(parents=True)
    else:
        shutil.copytree(root, part, symlinks=True, ignore=shutil.ignore_patterns(FOLDER))
    for path in sorted(plan.results):
        place, origin = part / path, root / path
        if plan.results[path] == GONE:
            place.unlink(missing_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        old = origin.is_file()
        replace(place, written(plan, path, origin.read_bytes() if old else b""))
        if old:
            shutil.copymode(origin, place)
    for folder in reversed(emptied(root, plan)):
        remove_empty(part / folder)
    if output.exists():
        output.rmdir()
    part.rename(output)
    return sorted(plan.results)
