"""Discovery by an etcd that lets in whom it knows, by name and password."""

from dataclasses import replace

import pytest
from qa.unit.cluster.etcd_server import EtcdServer
from qa.unit.cluster.remote_fleet import until
from qa.unit.cluster.test_discovery import Views, instance

from tritium.cli.options import describe, load_as
from tritium.cli.worker_options import WorkerOptions
from tritium.cluster.discovery import etcd as etcd_discovery
from tritium.cluster.discovery.choose import open_discovery
from tritium.cluster.discovery.etcd import EtcdDiscovery
from tritium.cluster.discovery.etcd_client import parse_etcd
from tritium.core.errors import InvalidArgument, Unavailable

PASSWORD = "p@ss,w:rd/"
LOGIN = "member:p%40ss%2Cw%3Ard%2F@"


@pytest.fixture(scope="module")
def etcd():
    """An etcd that knows one user."""
    server = EtcdServer().start_now()
    server.let_in("member", PASSWORD, "/tritium/")
    yield server
    server.close()


@pytest.mark.server("etcd")
@pytest.mark.parametrize("way", ["address", "file"])
async def test_who_has_the_password_comes_in(etcd, way, tmp_path, monkeypatch):
    """A worker is announced, renewed, told anew and withdrawn, and a front follows; by either way to give a password.

    So it is after etcd has started again, which makes it forget every token.
    """
    monkeypatch.setattr(etcd_discovery, "RENEW_S", 0.2)
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    address = etcd.address.replace("//", f"//{LOGIN if way == 'address' else 'member@'}") + f"/tritium/{way}"
    worker, front = (open_discovery(address, password=file if way == "file" else None) for _ in range(2))
    views = Views()
    await worker.announce(instance("a"))
    front.follow("default", views)
    await until(lambda: views.workers == ["a"])
    etcd.kill()
    await until(lambda: not front.status.connected and not worker.status.connected)
    await etcd.start()
    await until(lambda: front.status.connected and worker.status.connected)
    await worker.announce(instance("b"))
    await until(lambda: views.workers == ["a", "b"])
    await worker.withdraw(instance("a"))
    await until(lambda: views.workers == ["b"])
    for discovery in (worker, front):
        await discovery.close()


@pytest.mark.server("etcd")
@pytest.mark.parametrize(
    ("login", "prefix", "words"),
    [
        ("", "", "user name is empty"),
        ("member:wrong@", "", "invalid user ID or password"),
        ("nobody:x@", "", "invalid user ID or password"),
        (LOGIN, "/elsewhere", "permission denied"),
    ],
)
async def test_who_has_not_is_told_why(etcd, login, prefix, words):
    """etcd's words come with where to look, and never with the password."""
    discovery = open_discovery(etcd.address.replace("//", f"//{login}") + prefix)
    with pytest.raises(Unavailable, match=f"etcd at 127.0.0.1:{etcd.port} refuses: .*{words}") as refused:
        await discovery.announce(instance("a"))
    assert "discovery-password" in refused.value.hint or "at the password of user" in refused.value.hint
    assert "p%40" not in refused.value.told
    await discovery.close()


@pytest.mark.server("etcd")
async def test_a_token_that_etcd_has_forgotten(etcd):
    """Another one is asked for within the call: nobody notices."""
    discovery = EtcdDiscovery(replace(parse_etcd(etcd.address), user="member", password=PASSWORD))
    await discovery.announce(instance("a"))
    discovery._client._token = "stale.1"
    await discovery.announce(instance("b"))
    assert discovery._client._token not in ("", "stale.1")
    await discovery.close()


def test_passwords_are_not_shown(tmp_path):
    """Neither where the settings are shown, nor in what is said of an address that is none."""
    address = "etcd://member:topsecret@h:2379/x"
    shown = describe(load_as(WorkerOptions, {"discovery": address}, None))
    assert "topsecret" not in shown
    assert "etcd://***@h:2379/x" in shown
    assert "topsecret" not in repr(parse_etcd(address))
    for bad in (
        "etcd://member:topsecret@h:x",
        "consul://member:topsecret@h",
        "etcd://:topsecret@h",
        "etcd://member:12/topsecret@h",
        "etcd://member:12#topsecret@h",
        "etcd://member:topsecret@[::1",
    ):
        with pytest.raises(InvalidArgument) as refused:
            open_discovery(bad)
        assert "topsecret" not in refused.value.told
    with pytest.raises(InvalidArgument, match="a password needs a user"):
        open_discovery("etcd://h", password=tmp_path)
    with pytest.raises(InvalidArgument, match=f"cannot be read from {tmp_path}/none: No such file"):
        open_discovery("etcd://member@h", password=tmp_path / "none")
