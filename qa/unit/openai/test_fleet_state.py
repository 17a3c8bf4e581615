"""POST /fleet: how a model's fleet stands, and changing it; and the command that asks for it."""

import asyncio
import datetime as dt
import ssl

from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

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
    [change] = answer.json()["fleet"]["changes"]
    assert (change["worker"], change["before"], change["after"]) == ("worker_0", "decode", "aggregated")
    assert (change["restarted"], change["seconds"], change["error"]) == (False, 0.5, "")
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


async def test_command_at_a_server_that_is_not_trusted(tmp_path):
    """A certificate of an unknown authority is not taken for a server that is away."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = dt.datetime.now(dt.UTC)
    certificate = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    certificate = certificate.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    pem = tmp_path / "pem"
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(text + certificate.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        refused = await _run("story", "--url", url)
    assert refused.exit_code == 1
    assert f"{url} is not trusted" in refused.output


async def test_command_with_a_key(open_door):
    """Where the port asks for keys the command sends its own."""
    async with open_door(keys=["sk-boss"]) as door:
        url = f"http://127.0.0.1:{door.port}"
        assert (await _run("story", "--url", url)).exit_code == 1
        assert (await _run("story", "--url", url, "--key", "sk-boss")).exit_code == 0
