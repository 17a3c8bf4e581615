"""A real etcd on a free port, which can be killed and started again with what it knew."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress

import grpc
from aetcd import rpc


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class EtcdServer:
    def __init__(self, host="127.0.0.1", security=None):
        """With `security` (certificate, key and authority) clients have to show a certificate of that authority."""
        self.host = host
        self.security = security
        self.folder = tempfile.mkdtemp(prefix="tritium-etcd-")
        self.port, self.peer_port = _free_port(), _free_port()
        self.process = None

    @property
    def address(self):
        return f"etcd://{self.host}:{self.port}"

    async def start(self):
        """Start it and wait until it takes connections."""
        return await asyncio.to_thread(self.start_now)

    def start_now(self, within_s=60.0):
        peer = f"http://{self.host}:{self.peer_port}"
        client = f"{'http' if self.security is None else 'https'}://{self.host}:{self.port}"
        self.process = subprocess.Popen(
            [
                *("etcd", "--data-dir", self.folder, "--name", "one", "--initial-cluster", f"one={peer}"),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--unsafe-no-fsync"),
                *self._certificates(),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, "etcd has ended"
            with suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return self
            time.sleep(0.05)
        raise TimeoutError("etcd does not listen")

    def _certificates(self):
        if self.security is None:
            return []
        of = self.security
        files = ("--cert-file", of.certificate, "--key-file", of.key, "--trusted-ca-file", of.authority)
        return [*map(str, files), "--client-cert-auth"]

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    async def compact(self):
        """Forget all revisions but the last."""
        async with rpc.insecure_channel(f"{self.host}:{self.port}") as channel:
            kv = rpc.KVStub(channel)
            now = await kv.Range(rpc.RangeRequest(key=b"/"))
            await kv.Compact(rpc.CompactionRequest(revision=now.header.revision, physical=True))

    def let_in(self, user, password, prefix):
        """From now on let in a user alone, who may read and write what lies under a prefix; and root, its password."""
        with grpc.insecure_channel(f"{self.host}:{self.port}") as channel:
            auth = rpc.AuthStub(channel)
            auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
            auth.RoleAdd(rpc.AuthRoleAddRequest(name="member"))
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            allowed = rpc.Permission(permType=rpc.Permission.READWRITE, key=prefix.encode(), range_end=end.encode())
            auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="member", perm=allowed))
            for name, secret, role in (("root", "root", "root"), (user, password, "member")):
                auth.UserAdd(rpc.AuthUserAddRequest(name=name, password=secret))
                auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=name, role=role))
            auth.AuthEnable(rpc.AuthEnableRequest())

    async def leases(self):
        """Return the leases that live."""
        async with rpc.insecure_channel(f"{self.host}:{self.port}") as channel:
            answer = await rpc.LeaseStub(channel).LeaseLeases(rpc.LeaseLeasesRequest())
            return [one.ID for one in answer.leases]

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
