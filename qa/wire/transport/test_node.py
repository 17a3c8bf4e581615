"""grpc-js, the client of Node: where node and its packages are to be had, else the test says what is missing.

TRITIUM_NODE_MODULES names a folder in which @grpc/grpc-js is installed; without it npm is asked for the package.
"""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tritium.wire.grpc import GrpcError, Methods
from tritium.wire.status import Status

BOUND_S = 60.0
SCRIPT = """
const grpc = require('@grpc/grpc-js');
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure(),
  {'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1});
const same = x => x;
const unary = (path, body, options = {}) => new Promise((resolve, reject) =>
  client.makeUnaryRequest(path, same, same, body, new grpc.Metadata(), options, (e, r) => e ? reject(e) : resolve(r)));
const status = (path, options) => unary(path, Buffer.alloc(1), options).then(() => 'OK', e => `${e.code} ${e.details}`);
const fail = (...words) => { console.error(...words); process.exit(1); };
(async () => {
  for (const size of [0, 1, 1000, 70000, 1 << 20, 8 << 20]) {
    const reply = await unary('/s/Echo', Buffer.alloc(size, 7));
    if (reply.length !== size) fail('size', size, reply.length);
  }
  await Promise.all([...Array(300).keys()].map(size => unary('/s/Echo', Buffer.alloc(size)).then(
    reply => { if (reply.length !== size) fail('many', size); })));
  console.log(await status('/s/Fail'));
  console.log(await status('/s/Nope'));
  console.log((await status('/s/Hang', {deadline: Date.now() + 200})).slice(0, 1));
  const call = client.makeBidiStreamRequest('/s/Each', same, same);
  const got = [];
  call.on('data', piece => got.push(piece.length));
  const end = new Promise((resolve, reject) => { call.on('end', resolve); call.on('error', reject); });
  for (const size of [1, 100000, 0, 3 << 20, 5]) call.write(Buffer.alloc(size));
  call.end();
  await end;
  console.log(got.join(' '));
  process.exit(0);
})().catch(e => fail(e));
"""


async def echo(message, call):
    return bytes(message)


async def fail(message, call):
    raise GrpcError(Status.NOT_FOUND, "gone \u2603")


async def hang(message, call):
    cancelled = asyncio.Event()
    call.on_cancel(cancelled.set)
    await cancelled.wait()
    return b""


async def each(messages, call):
    async for message in messages:
        call.write(bytes(message))
        await call.drain()


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory):
    """A folder with grpc-js."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if given := os.environ.get("TRITIUM_NODE_MODULES"):
        return Path(given)
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, and TRITIUM_NODE_MODULES is not set")
    folder = tmp_path_factory.mktemp("node")
    command = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(folder),
        "@grpc/grpc-js@1",
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=BOUND_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot install @grpc/grpc-js: {error}")
    return folder / "node_modules"


async def test_grpc_js(wire, node_modules, tmp_path):
    """Messages of many sizes, many calls at once, errors, a deadline, and a stream in both directions."""
    table = Methods({"/s/Echo": echo, "/s/Fail": fail, "/s/Hang": hang}, {"/s/Each": each})
    listener = await wire.grpc(table)
    script = tmp_path / "client.js"
    script.write_text(SCRIPT)
    process = await asyncio.create_subprocess_exec(
        "node",
        str(script),
        f"127.0.0.1:{listener.port}",
        env={**os.environ, "NODE_PATH": str(node_modules)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), BOUND_S)
    assert process.returncode == 0, errors.decode()
    # grpc-js has words of its own where a method has none.
    failed, unknown, late, sizes = output.decode().splitlines()
    assert (failed, unknown.split()[0], late) == ("5 gone \u2603", "12", "4")
    assert sizes == "1 100000 0 3145728 5"
