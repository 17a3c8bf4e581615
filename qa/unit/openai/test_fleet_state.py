"""POST /fleet: how a model's fleet stands, and changing it; and the command that asks for it."""

import asyncio

from click.testing import CliRunner

from tritium.cli.fleet import fleet


async def test_state_is_told(door):
    """Without a setting nothing changes; shape, mode, thresholds and workers are told."""
    answer = await door.http.post("/fleet", json={"model": "story"})
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "story",
        "fleet": {
            "shape": "1 worker",
            "router": "kv",
            "thresholds": {"local_prefill_tokens": 0, "busy_decode": 0, "prefill_queue_tokens": 0, "detour": 3.0},
            "workers": [{"worker": "worker_0", "role": "aggregated", "state": "ready", "active": 0}],
            "changes": [],
        },
    }
    assert door.fleet.changed == [("", {})]


async def test_changes_reach_the_fleet(door):
    """Setting and roles by worker go to the model's fleet; what it refuses is a 400 in its words."""
    asked = {"model": "story", "setting": "detour=2", "workers": {"worker_0": "aggregated"}}
    answer = await door.http.post("/fleet", json=asked)
    assert answer.json()["fleet"]["changes"] == [
        {"worker": "worker_0", "before": "decode", "after": "aggregated", "restarted": False, "seconds": 0.5}
    ]
    assert door.fleet.changed == [("detour=2", {"worker_0": "aggregated"})]
    answer = await door.http.post("/fleet", json={"model": "story", "setting": "prefill=9"})
    assert answer.status_code == 400
    assert "nine are too many" in answer.text
    assert (await door.http.post("/fleet", json={"model": "nobody"})).status_code == 404
    assert (await door.http.post("/fleet", json={"model": "story", "seting": ""})).status_code == 400


async def _run(*arguments):
    return await asyncio.to_thread(CliRunner().invoke, fleet, list(arguments))


async def test_command(door):
    """`tritium fleet` prints a line a worker, and what it changed; refusals and a missing server exit with 1."""
    url = f"http://127.0.0.1:{door.port}"
    shown = await _run("story", "--url", url)
    assert (shown.exit_code, shown.output.splitlines()) == (
        0,
        [
            "story: 1 worker, router=kv local_prefill_tokens=0 busy_decode=0 prefill_queue_tokens=0 detour=3",
            "  worker_0  aggregated  ready     0 active",
        ],
    )
    changed = await _run("story", "detour=2", "--worker", "worker_0=aggregated", "--url", url)
    assert "0 active  was decode, in place in 0.5 s" in changed.output
    assert door.fleet.changed[-1] == ("detour=2", {"worker_0": "aggregated"})
    refused = await _run("story", "prefill=9", "--url", url)
    assert refused.exit_code == 1
    assert "nine are too many" in refused.output
    nobody = await _run("story", "--url", "http://127.0.0.1:9")
    assert nobody.exit_code == 1
    assert "no server answers at http://127.0.0.1:9" in nobody.output
    half = await _run("story", "--worker", "worker_0", "--url", url)
    assert half.exit_code == 2
    assert "write --worker worker_0=decode" in half.output


async def test_command_with_a_key(open_door):
    """Where the port asks for keys the command sends its own."""
    async with open_door(keys=["sk-boss"]) as door:
        url = f"http://127.0.0.1:{door.port}"
        assert (await _run("story", "--url", url)).exit_code == 1
        assert (await _run("story", "--url", url, "--key", "sk-boss")).exit_code == 0
