"""`tritium kv`: an operator's look at tiers."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner, Result
from qa.unit.kv.blocks import BLOCK, keys, save

from tritium.cli.kv import kv
from tritium.cli.kv_table import table
from tritium.kv.bench import takes_direct
from tritium.kv.settings import DiskSettings, ObjectSettings, StoreSettings
from tritium.kv.store import BlockStore


def run(*words: object) -> Result:
    """Run the command as a shell would."""
    return CliRunner().invoke(kv, [str(word) for word in words])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of a disk tier with six blocks."""
    with BlockStore(StoreSettings(BLOCK, disk=DiskSettings(40 * 8192, (tmp_path / "kv",), min_uses=1))) as store:
        save(store, keys(6))
    return tmp_path / "kv"


def test_stats_counts_a_directory(directory: Path) -> None:
    """Blocks, bytes, slots and tenants."""
    told = run("stats", directory).output
    assert "6 blocks  29.3 KiB in slots of 8 KiB" in told
    assert "1 tenants" in told


def test_inspect_finds_damage(directory: Path) -> None:
    """Whole directories are found whole, damaged ones exit with 1 and name the slot."""
    whole = run("inspect", directory, "--verify")
    assert whole.exit_code == 0
    assert "6 of 6 blocks are whole" in whole.output
    with (directory / "blocks.dat").open("r+b") as file:
        file.seek(2 * 8192 + 100)
        file.write(b"spoilt")
    damaged = run("inspect", directory, "--verify", "--limit", 1)
    assert damaged.exit_code == 1
    assert "damaged: slot 2 " in damaged.output
    assert "and 5 more" in damaged.output


def test_clear_empties_what_no_worker_has_open(directory: Path) -> None:
    """And refuses what one has."""
    with BlockStore(StoreSettings(BLOCK, disk=DiskSettings(40 * 8192, (directory,)))):
        refused = run("clear", directory, "--yes")
        assert refused.exit_code == 1
        assert "open in another process" in refused.output
        assert "stop the worker to empty it" in refused.output
    assert "6 blocks gone" in run("clear", directory, "--yes").output
    assert "0 blocks" in run("stats", directory).output


def test_clear_asks_first(directory: Path) -> None:
    """Without --yes nothing goes before an answer."""
    assert run("clear", directory).exit_code == 1
    assert "6 blocks" in run("stats", directory).output


def test_directories_of_workers_are_found_below(tmp_path: Path) -> None:
    """By the directory in the setting: all are shown, named with their blocks before anything goes, and emptied."""
    for rank in range(2):
        place = tmp_path / f"chat/worker_0/rank_{rank}"
        with BlockStore(StoreSettings(BLOCK, disk=DiskSettings(40 * 8192, (place,), min_uses=1))) as store:
            save(store, keys(3))
    assert run("stats", tmp_path).output.count("3 blocks  14.65 KiB") == 2
    asked = CliRunner().invoke(kv, ["clear", str(tmp_path)], input="n\n")
    assert asked.output.count("3 blocks  14.65 KiB") == 2
    assert "3 blocks" in run("stats", tmp_path).output
    assert run("clear", tmp_path, "--yes").output.count("3 blocks gone") == 2


def test_a_file_of_that_name_that_is_no_index_stops_clearing(tmp_path: Path) -> None:
    """Nothing is emptied where one of the directories is none of ours."""
    with BlockStore(StoreSettings(BLOCK, disk=DiskSettings(40 * 8192, (tmp_path / "a",), min_uses=1))) as store:
        save(store, keys(3))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/blocks.idx").write_text("mine")
    refused = run("clear", tmp_path, "--yes")
    assert refused.exit_code == 1
    assert "no index of KV blocks" in refused.output
    assert "3 blocks" in run("stats", tmp_path / "a").output


def test_metrics_become_a_table_with_units() -> None:
    """Sums over workers, a column a tier."""
    told = table(
        [
            "# HELP tritium_kv_tier_blocks Blocks that a tier holds",
            'tritium_kv_tier_blocks{model="m",worker="a",tier="host"} 3.0',
            'tritium_kv_tier_blocks{model="m",worker="b",tier="host"} 4.0',
            'tritium_kv_tier_used_bytes{model="m",worker="b",tier="disk"} 3221225472.0',
            'tritium_kv_tier_load_seconds_total{model="m",worker="b",tier="disk"} 1.5',
            'tritium_kv_store_misses_total{model="m",worker="b"} 5.0',
            "nv_inference_count 5",
        ]
    )
    assert [line.split() for line in told] == [
        ["tier", "host", "disk"],
        ["blocks", "7", "0"],
        ["used", "0", "B", "3", "GiB"],
        ["load", "0.000", "s", "1.500", "s"],
        ["misses", "5"],
    ]


def test_a_server_without_tiers_is_said_to_tell_of_none() -> None:
    """Of an address without a path its /metrics are read; that counting begins with a request is said."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'tritium_kv_tier_blocks{tier="host"} 7\n' if self.path == "/metrics" else b""
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  (the name of the base class)
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            assert run("stats", "--url", address).output.split() == ["tier", "host", "blocks", "7"]
            assert "from a worker's first request on" in run("stats", "--url", f"{address}/other").output
        finally:
            server.shutdown()
            thread.join()


def test_objects_are_counted_and_cleared(tmp_path: Path) -> None:
    """By the URL of the bucket."""
    url = f"file://{tmp_path}"
    with BlockStore(StoreSettings(BLOCK, objects=ObjectSettings(40 * BLOCK, url, min_uses=1))) as store:
        save(store, keys(3))
    assert "3 blocks" in run("stats", "--objects", url).output
    assert "3 blocks gone" in run("clear", "--objects", url, "--yes").output
    assert "0 blocks" in run("stats", "--objects", url).output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("stats",), "nothing to look at"),
        (("stats", "/nowhere"), "holds no KV blocks"),
        (("clear",), "nothing to empty"),
        (("stats", "--url", "ftp://x"), "not an http"),
        (("bench", "--block", "big"), "is no size"),
    ],
)
def test_bad_input_is_named(words: tuple[str, ...], told: str) -> None:
    """What is wrong, in one line."""
    refused = run(*words)
    assert refused.exit_code
    assert told in refused.output
    assert "Traceback" not in refused.output


def test_bench_measures_every_tier(tmp_path: Path) -> None:
    """Both directions of host, disk and objects, with the raw speed beside them."""
    (tmp_path / "bucket").mkdir()
    small = ("--block", "64KiB", "--blocks", 4, "--turns", 1)
    # A process of its own: what NIXL brings along is not to meet what other tests have loaded.
    program = Path(sys.executable).with_name("tritium")
    words = ("kv", "bench", *small, "--disk", tmp_path / "disk", "--objects", f"file://{tmp_path / 'bucket'}")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=110, check=False)
    assert not done.returncode, done.stderr
    told = done.stdout
    direct = ["disk direct plain"] if takes_direct(tmp_path) else []
    for name in ("host", *direct, "disk page cache plain", "objects"):
        rows = [line for line in told.splitlines() if line.startswith(name)]
        assert [row[28:32] for row in rows] == ["save", "load"], told
        # What they are depends on what else the machine does; a side that was interrupted shows as 0.00.
        assert all(float(number) >= 0 for row in rows for number in row.split()[-3:])
