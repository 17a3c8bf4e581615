"""The command `dynamo-migrate record`."""

import asyncio
import signal
from pathlib import Path

import click


@click.command()
@click.argument("servers", nargs=-1, required=True, metavar="URL...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write."
)
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Where the proxy of each URL listens, in their order; without it on free ports of 127.0.0.1.",
)
@click.option(
    "--redact-text", is_flag=True, help="Write letters as x and digits as 0 in all text of inputs and outputs."
)
@click.option(
    "--cafile",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Certificates (PEM) by which the servers' are checked, where the system does not know their authority.",
)
@click.option("--most-mib", default=256, show_default=True, help="The file's largest size.")
@click.option("--most-body", default=4, show_default=True, help="MiB of a body that are kept; larger ones are not.")
def record(
    servers: tuple[str, ...],
    output: Path,
    listen: tuple[str, ...],
    cafile: Path | None,
    *,
    redact_text: bool,
    most_mib: int,
    most_body: int,
) -> None:
    """Stand between clients and the servers at each URL, and write down the inferences that pass.

    URLs are http://host:8000 or grpc://host:8001 (https, grpcs: with TLS to the server). Give clients the addresses
    that are printed. Bytes pass as they are. Written down, without credentials, are infer, generate, generate_stream,
    ModelInfer, ModelStreamInfer, and completions, chat and embeddings of OpenAI's API.
    `dynamo-migrate verify --recorded FILE` sends them again.
    Ends with Ctrl-C or SIGTERM. A recording that is there goes on where it ended.
    """
    from tritium.migration.recording.file import BadRecording  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.recording.recorder import BadAddress, Recorder, way  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.recording.recorder import record as run  # noqa: PLC0415  (not paid by --help)

    if listen and len(listen) != len(servers):
        raise click.UsageError(f"{len(servers)} URLs and {len(listen)} --listen: give one for each, or none")
    try:
        ways = [way(url, place) for url, place in zip(servers, listen or ["127.0.0.1:0"] * len(servers), strict=True)]
        recorder = Recorder(
            ways, output, most_bytes=most_mib << 20, most_body=most_body << 20, redact_text=redact_text, cafile=cafile
        )
    except (BadAddress, BadRecording, OSError) as error:
        click.echo(f"dynamo-migrate: {error}", err=True)
        raise SystemExit(2) from None

    def ready(urls: list[str]) -> None:
        for server, url in zip(servers, urls, strict=True):
            click.echo(f"{url} -> {server}", err=True)

    async def until_told() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        await run(recorder, ready, stopped)

    try:
        asyncio.run(until_told())
    except OSError as error:
        click.echo(f"dynamo-migrate: {error}", err=True)
        raise SystemExit(2) from None
    said = f"{recorder.file.written} call{'s' * (recorder.file.written != 1)} in {output}"
    if recorder.unusable:
        said += f", {recorder.unusable} of them without their bodies"
    if recorder.file.left_out:
        said += f"; {recorder.file.left_out} did not fit --most-mib"
    click.echo(said, err=True)
