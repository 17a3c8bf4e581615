"""`tritium check PATH...`: every problem of model repositories, or of single configuration files, without serving."""

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tritium.compat.config.problem import Problem
    from tritium.repository.survey import Survey

_EXIT_BROKEN = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.  [text]")
@click.option("--run-python", is_flag=True, help="Also run auto_complete_config of python models.")
@click.option("--cpu-for-gpu", is_flag=True, help="Check as a server that runs KIND_GPU instances on the CPU.")
@click.option("--no-auto-complete", is_flag=True, help="Check as a server that completes no configuration.")
def check(paths: tuple[str, ...], form: str, *, run_python: bool, cpu_for_gpu: bool, no_auto_complete: bool) -> None:
    """Check model repositories without serving them.

    PATH is a model repository, the folder of one model, or a configuration file. The exit status is 0 when every
    model can be loaded as far as its files tell, and 2 when not, with every problem printed.
    """
    from tritium.llm.checking import check_version  # noqa: PLC0415  (--help must not import protobuf)
    from tritium.llm.text_models.book import check_offer  # noqa: PLC0415  (nor this)
    from tritium.llm.trtllm_files import read_trtllm_files  # noqa: PLC0415  (nor this)
    from tritium.repository.audit import audit  # noqa: PLC0415  (nor this)
    from tritium.repository.places import repository_of  # noqa: PLC0415  (nor this)

    found = audit(
        [repository_of(path) for path in paths],
        {"vllm": check_version, "tensorrtllm": partial(check_version, read=read_trtllm_files)},
        every_check=check_offer,
        auto_complete=not no_auto_complete,
        run_python=run_python,
        cpu_for_gpu=cpu_for_gpu,
    )
    if form == "json":
        click.echo(json.dumps(_document(found), indent=2))
    else:
        click.echo(found.render(""))
        for note in found.left_out:
            click.echo(f"not checked: {note}")
    if found.fatal:
        raise SystemExit(_EXIT_BROKEN)


def _document(found: "Survey") -> dict[str, Any]:
    return {
        "models": len(found.candidates) + len(found.duplicates),
        "problems": [_problem(problem) for problem in found.problems],
        "not_checked": found.left_out,
    }


def _problem(problem: "Problem") -> dict[str, Any]:
    return {
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
        "length": problem.length,
        "severity": "error" if problem.fatal else "warning",
        "message": problem.message,
        "hint": problem.hint,
    }
