"""The commands `plan`, `apply` and `rollback`. What they need is imported when they run, so --help stays quick."""

from pathlib import Path

import click

_FAILED = 2
PLAN = "plan.dynamo-migrate.json"
"""The saved plan where no other name is given."""


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=PLAN, show_default=True, help="The saved plan."
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
    path: Path,
    output: Path,
    said: Path | None,
    unsafe: tuple[str, ...],
    metrics: str,
    *,
    asking: bool,
    no_diff: bool,
    exit_code: bool,
) -> None:
    """Plan the move of the deployment below PATH, and show it as diffs.

    Changes nothing: the plan is saved, for `apply`. Safe changes keep what the deployment does; unsafe ones are shown
    apart, and made where --unsafe asks for them. What no file tells is a question; answers are kept in a file that can
    be used again. Exits with 0, or with 2 when PATH cannot be planned.
    """
    from tritium.migration.planning.answers import (  # noqa: PLC0415  (not paid by --help)
        Answers,
        BadAnswers,
        ask,
        read_answers,
        write_answers,
    )
    from tritium.migration.planning.planner import NoDeployment, Wishes, make_plan  # noqa: PLC0415  (likewise)
    from tritium.migration.planning.preview import preview  # noqa: PLC0415  (likewise)
    from tritium.migration.planning.saved import save  # noqa: PLC0415  (likewise)
    from tritium.migration.rules.registry import BadRule  # noqa: PLC0415  (likewise)
    from tritium.migration.survey import SurveyError  # noqa: PLC0415  (likewise)

    aside = frozenset(one.absolute() for one in (output, said) if one is not None)
    try:
        answers = read_answers(said) if said is not None and said.exists() else Answers()
        wishes = Wishes(answers, frozenset(rule.upper() for rule in unsafe), metrics == "replace", aside)
        made = make_plan(path, wishes)
        if asking:
            ask(made.questions, answers, _reply)
            made = make_plan(path, wishes)
    except (BadAnswers, BadRule, NoDeployment, SurveyError) as error:
        raise _failed(error) from None
    if said is not None and made.questions and (asking or not said.exists()):
        write_answers(said, made.questions)
        click.echo(f"dynamo-migrate: answers are in {said}", err=True)
    save(made, output)
    click.echo(preview(made, path, diffs=not no_diff), nl=False)
    click.echo(f"dynamo-migrate: the plan is in {output}; dynamo-migrate apply {output} carries it out", err=True)
    raise SystemExit(1 if exit_code and made.changes else 0)


@click.command()
@click.argument("saved", metavar="[PLAN]", type=click.Path(path_type=Path), default=PLAN)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder to write.  [default: PATH-tritium]")
@click.option("--in-place", is_flag=True, help="Write into the deployment itself, with backups and a journal.")
@click.option("--changed-only", is_flag=True, help="Of the output folder, write only files that the plan changes.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the deployment lies, if elsewhere than planned.")
def apply(saved: Path, output: Path | None, root: Path | None, *, in_place: bool, changed_only: bool) -> None:
    """Carry out a saved PLAN, exactly as it was shown.

    Into a folder beside the deployment, or in place: then `rollback` takes it back, also when apply was interrupted,
    and the same command finishes it. A second apply changes nothing. Refused, with the files, when anything that the
    plan was made of has changed since.
    """
    from tritium.migration.applying.in_place import Refused, apply_in_place  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.applying.journal import BadJournal  # noqa: PLC0415  (likewise)
    from tritium.migration.applying.output import apply_to  # noqa: PLC0415  (likewise)
    from tritium.migration.planning.saved import BadPlan, StalePlan, load  # noqa: PLC0415  (likewise)

    if in_place and (output is not None or changed_only):
        raise click.UsageError("--in-place goes without -o and --changed-only")
    try:
        made = load(saved)
        home = root or Path(made.root)
        place = home if in_place else output or home.with_name(f"{home.name}-tritium")
        names = apply_in_place(made, home) if in_place else apply_to(made, home, place, only_changed=changed_only)
    except (BadPlan, StalePlan, Refused, BadJournal, OSError) as error:
        raise _failed(error) from None
    for question in made.questions:
        if not question.answer and question.assumed:
            click.echo(f"dynamo-migrate: assumed {question.topic} {question.assumed}, which nobody answered", err=True)
    click.echo("".join(f"{name}\n" for name in names) + f"{len(names)} files written in {place}")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Also where a file was changed since; that change is lost.")
def rollback(path: Path, *, force: bool) -> None:
    """Take back an apply in place below PATH, finished or interrupted: every file is as it was, to the byte."""
    from tritium.migration.applying.in_place import Refused, roll_back  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.applying.journal import BadJournal  # noqa: PLC0415  (likewise)

    try:
        names = roll_back(path, force=force)
    except (Refused, BadJournal, OSError) as error:
        raise _failed(error) from None
    click.echo("".join(f"{name}\n" for name in names) + f"{len(names)} files restored in {path}")


def _reply(text: str, assumed: str) -> str:
    return str(click.prompt(text, default=assumed, show_default=bool(assumed), err=True))


def _failed(error: Exception) -> SystemExit:
    click.echo(f"dynamo-migrate: {error}", err=True)
    return SystemExit(_FAILED)
