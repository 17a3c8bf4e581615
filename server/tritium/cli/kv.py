"""`tritium kv stats|inspect|clear|bench`: the tiers of KV below the device, from an operator's side."""

import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import click

from tritium.cli.kv_table import size, table
from tritium.core.errors import InferenceError
from tritium.kv.inspection import clear_directory, clear_objects, look_into, object_names, tier_directories, verify
from tritium.kv.settings import ObjectSettings, parse_bytes
from tritium.kv.slab import read_directory

_DIRECTORIES = click.argument("directories", nargs=-1, type=click.Path(path_type=Path, file_okay=False))
_OBJECTS = click.option("--objects", metavar="URL", help="A bucket, such as s3://bucket/prefix.")
_ENDPOINT = click.option("--endpoint", default="", help="The address of an S3 that is not AWS's.")
_TIMEOUT_S = 30


class _Command(click.Command):
    """A command whose refusals are one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run it."""
        try:
            return super().invoke(ctx)
        except InferenceError as error:
            raise click.ClickException(error.told) from None
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'input'}: {error.strerror or error}") from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def kv() -> None:
    """Look at the tiers of KV below the device, empty them, or measure them.

    A directory is one that a disk tier was given; docs/kv-tiers.md says how tiers are set.
    """


@kv.command(cls=_Command)
@_DIRECTORIES
@_OBJECTS
@_ENDPOINT
@click.option("--url", help="A running server's metrics, such as http://localhost:8002/metrics.")
def stats(directories: tuple[Path, ...], objects: str | None, endpoint: str, url: str | None) -> None:
    """Say how much tiers hold, and with --url what the workers of a running server did with them.

    Of a DIRECTORY above those of workers, such as the one in `kv_tiers`, all down to three folders below it are shown.
    """
    if not directories and not objects and not url:
        raise click.UsageError("nothing to look at: name a directory, --objects or --url")
    for directory in tier_directories(directories):
        content = look_into(directory)
        click.echo(
            f"{directory}  {content.blocks} blocks  {size(content.size_bytes)} in slots of"
            f" {size(content.slot_bytes)}  {size(content.file_bytes)} on disk  {content.tenants} tenants"
        )
    if objects:
        names = object_names(_bucket(objects, endpoint))
        click.echo(f"{objects}  {len(names)} blocks  {size(sum(size for _, size in names))}")
    if url:
        click.echo(
            "\n".join(table(_metrics(url)))
            or f"{url} tells of no KV tiers (they are counted from a worker's first request on)"
        )


@kv.command(cls=_Command)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--verify", "check", is_flag=True, help="Read every block and compare it with its checksum.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many blocks.")
def inspect(directory: Path, limit: int, *, check: bool) -> None:
    """List the blocks in DIRECTORY, the newest first; exit with 1 if --verify finds damaged ones."""
    records = sorted(read_directory(directory), key=lambda record: -record.serial)
    for record in records[:limit]:
        click.echo(f"slot {record.slot:<8} {size(record.size_bytes):>10}  {record.key.hex()}")
    if len(records) > limit:
        click.echo(f"and {len(records) - limit} more (--limit)")
    if check:
        bad = [verdict.record for verdict in verify(directory) if not verdict.good]
        for record in bad:
            click.echo(f"damaged: slot {record.slot}  {record.key.hex()}")
        click.echo(f"{len(records) - len(bad)} of {len(records)} blocks are whole; damaged ones are never served")
        if bad:
            raise SystemExit(1)


@kv.command(cls=_Command)
@_DIRECTORIES
@_OBJECTS
@_ENDPOINT
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(directories: tuple[Path, ...], objects: str | None, endpoint: str, *, yes: bool) -> None:
    """Empty directories that no worker has open, or a bucket's blocks; what they held is computed again.

    Nothing but blocks is touched: other files and objects stay. Of a DIRECTORY above those of workers, such as
    the one in `kv_tiers`, all down to three folders below it are emptied.
    """
    if not directories and not objects:
        raise click.UsageError("nothing to empty: name a directory or --objects")
    settings = _bucket(objects or "", endpoint)
    found = [look_into(directory) for directory in tier_directories(directories)]
    names = object_names(settings) if objects else []
    if not yes:
        for content in found:
            click.echo(f"{content.directory}  {content.blocks} blocks  {size(content.size_bytes)}")
        if objects:
            click.echo(f"{objects}  {len(names)} blocks  {size(sum(bytes_ for _, bytes_ in names))}")
        click.confirm("Empty these?", abort=True)
    for content in found:
        click.echo(f"{content.directory}  {clear_directory(content.directory)} blocks gone")
    if objects:
        clear_objects(settings, [name for name, _ in names])
        click.echo(f"{objects}  {len(names)} blocks gone")


@kv.command(cls=_Command)
@click.option("--disk", type=click.Path(path_type=Path, file_okay=False), help="A directory to measure in.")
@_OBJECTS
@_ENDPOINT
@click.option("--block", default="1MiB", show_default=True, help="The size of a block.")
@click.option("--blocks", type=click.IntRange(1), default=128, show_default=True, help="Blocks a turn.")
@click.option("--turns", type=click.IntRange(1), default=5, show_default=True, help="Turns of each.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads that move blocks.")
def bench(
    disk: Path | None, objects: str | None, endpoint: str, block: str, blocks: int, turns: int, threads: int
) -> None:
    """Measure tiers here, each against the same bytes moved without it: memcpy, plain file I/O, the bucket's client.

    The disk is measured with and without the page cache, and through NIXL where that is installed.
    """
    from tritium.kv.bench import (  # noqa: PLC0415  (only this command measures)
        Load,
        Measured,
        bench_disk,
        bench_host,
        bench_objects,
        movers,
        takes_direct,
    )

    load = Load(parse_bytes(block), blocks, turns, threads)
    click.echo(f"{blocks} blocks of {block}, {threads} threads, medians of {turns} turns\n")
    click.echo(f"{'tier':<28}{'':<6}{'GB/s':>8}{'raw GB/s':>10}{'ratio':>8}")

    def tell(name: str, measured: list[Measured]) -> None:
        for one in measured:
            click.echo(f"{name:<28}{one.what:<6}{one.tier_gb_s:>8.2f}{one.raw_gb_s:>10.2f}{one.ratio:>8.2f}")

    tell("host", bench_host(load))
    if disk:
        for direct in (True, False) if takes_direct(disk) else (False,):
            for mover in movers():
                name = f"disk {'direct' if direct else 'page cache'} {mover}"
                try:
                    tell(name, bench_disk(load, disk, direct=direct, mover=mover))
                except Exception as error:  # noqa: BLE001  # what another's library fails with is its row
                    click.echo(f"{name:<28}{type(error).__name__}: {error}")
    if objects:
        tell("objects", bench_objects(load, _bucket(objects, endpoint)))


def _bucket(url: str, endpoint: str) -> ObjectSettings:
    """Return how to reach a bucket; keys and region come from the environment, as AWS's tools take them."""
    return ObjectSettings(1 << 60, url, endpoint=endpoint, timeout_s=_TIMEOUT_S)


def _metrics(url: str) -> list[str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise click.UsageError(f"--url {url} is not an http or https address")
    if parts.path in ("", "/"):
        url = parts._replace(path="/metrics").geturl()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  the scheme was looked at
            text: str = answer.read().decode()
    except OSError as error:
        raise click.ClickException(f"no metrics at {url}: {getattr(error, 'reason', error)}") from None
    return text.splitlines()
