"""`tritium fleet MODEL`: how the fleet of a model stands in a running server, and changing it while it serves."""

import json
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import click

TIMEOUT_S = 900.0
"""Workers that must be started again for another role load their model anew, one after the other."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.argument("setting", default="")
@click.option("--worker", "workers", multiple=True, metavar="NAME=ROLE", help="A worker's role; repeat it for more.")
@click.option("--url", default="http://localhost:9000", show_default=True, help="The server's OpenAI port.")
@click.option("--key", envvar="TRITIUM_ADMIN_KEY", help="An API key that may administer [$TRITIUM_ADMIN_KEY].")
@click.option("--json", "as_json", is_flag=True, help="Answer as the server does.")
def fleet(model: str, setting: str, workers: tuple[str, ...], url: str, key: str | None, *, as_json: bool) -> None:
    """Show the fleet of MODEL, or change it by a SETTING while it serves.

    Of a fleet's setting the roles, the router's mode and where prompts are computed can change:

        tritium fleet story prefill=2,decode=1,local_prefill_tokens=256

        tritium fleet story --worker decode_1=prefill

    Ends with status 1 where a worker could not take its role.
    """
    roles = {name: role for name, _, role in (part.partition("=") for part in workers)}
    if missing := [name for name, role in roles.items() if not role]:
        raise click.UsageError(f"--worker {missing[0]} has no role; write --worker {missing[0]}=decode")
    answer = _post(url, key, {"model": model, "setting": setting, "workers": roles})
    click.echo(json.dumps(answer, indent=2) if as_json else _table(answer))
    if any(change["error"] for change in answer["fleet"]["changes"]):
        sys.exit(1)


def _post(url: str, key: str | None, body: dict[str, Any]) -> dict[str, Any]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise click.UsageError(f"--url {url} is not an http or https address")
    request = urllib.request.Request(  # noqa: S310  the scheme was looked at
        f"{url.rstrip('/')}/fleet", json.dumps(body).encode(), {"content-type": "application/json"}, method="POST"
    )
    if key:
        request.add_header("authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  as above
            read: dict[str, Any] = json.load(answer)
            return read
    except urllib.error.HTTPError as refused:
        raise click.ClickException(_words(refused)) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            said = f"{url} is not trusted: {reason.verify_message} (SSL_CERT_FILE=FILE names its authority)"
            raise click.ClickException(said) from None
        raise click.ClickException(f"no server answers at {url}: {reason}") from None


def _words(refused: urllib.error.HTTPError) -> str:
    """Return what the server says of its refusal."""
    try:
        error = json.load(refused)["error"]
        return str(error["message"])
    except (ValueError, KeyError, TypeError):
        return f"{refused.url} answered {refused.code} {refused.reason}"


def _table(answer: dict[str, Any]) -> str:
    state = answer["fleet"]
    width = max((len(worker["worker"]) for worker in state["workers"]), default=0)
    thresholds = " ".join(f"{name}={value:g}" for name, value in state["thresholds"].items())
    lines = [f"{answer['model']}: {state['shape']}, router={state['router']} {thresholds}"]
    changes = {change["worker"]: change for change in state["changes"]}
    there = {worker["worker"] for worker in state["workers"]}
    for worker in state["workers"]:
        line = f"  {worker['worker']:{width}}  {worker['role']:10}  {worker['state']:8}  {worker['active']} active"
        if change := changes.get(worker["worker"]):
            how = "started again" if change["restarted"] else "in place"
            did = f"was {change['before']}, {how} in {change['seconds']:g} s"
            line += f"  {change['error'] or did}"
        lines.append(line)
    lines += [f"  {name:{width}}  gone: {change['error']}" for name, change in changes.items() if name not in there]
    return "\n".join(lines)
