"""The commands `plan`, `apply` and `rollback`. What they need is imported when they run, so --help stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tritium.migration.planning.plan import Plan

_FAILED = 2
PLAN = "plan.dynamo-migrate.json"
"""The saved plan where no other name is given."""
SUFFIX = ".dynamo-migrate.json"
"""How plans are called; the audit passes them over."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help=f"The saved plan, or for several PATHs the folder of theirs.  [default: {PLAN}, or NAME{SUFFIX} each]",
)
@click.option(
    "--answers", "said", type=click.Path(path_type=Path), help="A file of answers; written where there is none."
)
@click.option("--ask", "asking", is_flag=True, help="Ask here what no answer is known to; kept in the file of answers.")
@click.option(
    "--unsafe",
    multiple=True,
    metavar="RULE",
    help="Make unsafe changes of RULE too, or of ALL; several times.",
)
@click.option("--metrics", type=click.Choice(["beside", "replace"]), default="beside", help="Where new metrics go.")
@click.option("--no-diff", is_flag=True, help="Show what is changed, without the diffs.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something would be changed.")
def plan(
    paths: tuple[Path, ...],
    output: Path | None,
    said: Path | None,
    unsafe: tuple[str, ...],
    metrics: str,
    *,
    asking: bool,
    no_diff: bool,
    exit_code: bool,
) -> None:
    """Plan the move of the deployment below each PATH, and show it as diffs.

    Changes nothing: the plan is saved, for `apply`. Safe changes keep what the deployment does; unsafe ones are shown
    apart, and made where --unsafe asks for them. What no file tells is a question; answers are kept in a file that can
    be used again. Exits with 0, or with 2 when PATH cannot be planned.
    """
    from tritium.migration.planning.answers import (  # noqa: PLC0415  (not paid by --help)
        Answers,
        BadAnswers,
        ask,
        read_answers,
        unasked,
        write_answers,
    )
    from tritium.migration.planning.planner import NoDeployment, Wishes, make_plan, no_rules  # noqa: PLC0415  (likewise)
    from tritium.migration.planning.preview import preview  # noqa: PLC0415  (likewise)
    from tritium.migration.planning.saved import save  # noqa: PLC0415  (likewise)
    from tritium.migration.rules.registry import BadRule  # noqa: PLC0415  (likewise)
    from tritium.migration.survey import SurveyError  # noqa: PLC0415  (likewise)

    places = _places(paths, output)
    aside = frozenset(one.absolute() for one in (*places.values(), said) if one is not None)
    plans: dict[Path, Plan] = {}
    failed = False
    try:
        answers = read_answers(said) if said is not None and said.exists() else Answers()
        wishes = Wishes(answers, frozenset(rule.upper() for rule in unsafe), metrics == "replace", aside)
        if unknown := no_rules(wishes.unsafe):
            raise click.UsageError(f"--unsafe: there is no rule {unknown[0]}; dynamo-migrate explain lists them")
        for path in places:
            try:
                plans[path] = make_plan(path, wishes)
                if asking:
                    ask(plans[path].questions, answers, _reply)
                    plans[path] = make_plan(path, wishes)
            except (NoDeployment, SurveyError) as error:
                # Of several deployments one that cannot be planned keeps none of the others from it.
                failed = True
                click.echo(f"dynamo-migrate: {error}", err=True)
    except (BadAnswers, BadRule) as error:
        raise _failed(error) from None
    asked = {(one.topic, one.about): one for made in plans.values() for one in made.questions}
    if said is not None and asked and (asking or not said.exists()):
        write_answers(said, asked.values())
        click.echo(f"dynamo-migrate: answers are in {said}", err=True)
    if not failed:
        for one in unasked(answers, (question for made in plans.values() for question in made.questions)):
            click.echo(f"dynamo-migrate: {said} answers {one}, which nothing here asks", err=True)
    for path, made in plans.items():
        save(made, places[path])
        if len(places) > 1:
            click.echo(f"# {path}\n")
        click.echo(preview(made, path, diffs=not no_diff), nl=False)
        kept = places[path]
        click.echo(f"dynamo-migrate: the plan is in {kept}; dynamo-migrate apply {kept} carries it out", err=True)
    changes = any(made.changes for made in plans.values())
    raise SystemExit(_FAILED if failed else 1 if exit_code and changes else 0)


@click.command()
@click.argument("plans", metavar="[PLAN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The folder to write, or for several PLANs the folder around theirs.  [default: PATH-tritium]",
)
@click.option("--in-place", is_flag=True, help="Write into the deployment itself, with backups and a journal.")
@click.option("--changed-only", is_flag=True, help="Of the output folder, write only files that the plan changes.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the deployment lies, if elsewhere than planned.")
def apply(
    plans: tuple[Path, ...], output: Path | None, root: Path | None, *, in_place: bool, changed_only: bool
) -> None:
    """Carry out saved PLANs, exactly as they were shown.

    Into a folder beside the deployment, or in place: then `rollback` takes it back, also when apply was interrupted,
    and the same command finishes it. A second apply changes nothing. Refused, with the files, when anything that the
    plan was made of has changed since.
    """
    from tritium.migration.applying.in_place import apply_in_place  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.applying.journal import BadJournal  # noqa: PLC0415  (likewise)
    from tritium.migration.applying.output import apply_to  # noqa: PLC0415  (likewise)
    from tritium.migration.applying.place import Refused  # noqa: PLC0415  (likewise)
    from tritium.migration.planning.saved import BadPlan, StalePlan, load  # noqa: PLC0415  (likewise)

    if in_place and (output is not None or changed_only):
        raise click.UsageError("--in-place goes without -o and --changed-only")
    if root is not None and len(plans) > 1:
        raise click.UsageError("--root goes with one plan")
    for saved in plans or (Path(PLAN),):
        try:
            made = load(saved)
            home = root or Path(made.root)
            around = output / home.name if output is not None and len(plans) > 1 else output
            place = home if in_place else around or home.with_name(f"{home.name}-tritium")
            names = apply_in_place(made, home) if in_place else apply_to(made, home, place, only_changed=changed_only)
        except (BadPlan, StalePlan, Refused, BadJournal, OSError) as error:
            raise _failed(error) from None
        click.echo(_done(made, names, place), nl=False)
        for question in made.questions if names else ():
            if not question.answer and question.assumed:
                said = f"assumed {question.topic} {question.assumed}, which nobody answered"
                click.echo(f"dynamo-migrate: {said}", err=True)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Also where a file was changed since; that change is lost.")
def rollback(path: Path, *, force: bool) -> None:
    """Take back an apply in place below PATH, finished or interrupted: every file is as it was, to the byte.

    Where nothing was applied, or it was taken back already, there is nothing to do, and it exits with 0.
    """
    from tritium.migration.applying.in_place import roll_back  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.applying.journal import BadJournal  # noqa: PLC0415  (likewise)
    from tritium.migration.applying.place import Refused  # noqa: PLC0415  (likewise)

    try:
        names = roll_back(path, force=force)
    except (Refused, BadJournal, OSError) as error:
        raise _failed(error) from None
    if not names:
        click.echo("nothing to do: nothing was applied here in place, or it was taken back")
    click.echo("".join(f"{name}\n" for name in names) + f"{_files(len(names))} restored in {path}")


def _done(plan: Plan, names: list[str], place: Path) -> str:
    """Say which files an apply wrote and took away."""
    if not names:
        what = "the plan changes nothing" if not plan.results else "all of the plan is done already"
        return f"nothing to do: {what}\n0 files written in {place}\n"
    gone = set(plan.removes)
    lines = [f"{name} (taken away)\n" if name in gone else f"{name}\n" for name in names]
    taken = f", {len(gone)} taken away" if gone else ""
    return f"{''.join(lines)}{_files(len(names) - len(gone))} written{taken} in {place}\n"


def _files(number: int) -> str:
    return f"{number} file{'s' * (number != 1)}"


def _places(paths: tuple[Path, ...], output: Path | None) -> dict[Path, Path]:
    """Return where the plan for each path is saved."""
    if len(paths) == 1:
        return {paths[0]: output or Path(PLAN)}
    names = [path.absolute().name for path in paths]
    if len(set(names)) < len(names):
        raise click.UsageError("plans are named after their folders: plan those of the same name one by one, with -o")
    return {path: (output or Path()) / f"{name}{SUFFIX}" for path, name in zip(paths, names, strict=True)}


def _reply(text: str, assumed: str) -> str:
    return str(click.prompt(text, default=assumed, show_default=bool(assumed), err=True))


def _failed(error: Exception) -> SystemExit:
    click.echo(f"dynamo-migrate: {error}", err=True)
    return SystemExit(_FAILED)
