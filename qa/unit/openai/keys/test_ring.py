"""All keys of a server, those of a file that changes while it runs among them."""

import os

import pytest
from structlog.testing import capture_logs

from tritium.core.errors import InvalidArgument
from tritium.openai.errors import Unauthorized
from tritium.openai.keys.entry import key_hash
from tritium.openai.keys.ring import KeyRing


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _write(path, keys):
    text = "".join(f'[[keys]]\nname = "{name}"\nsha256 = "{key_hash(key)}"\n' for name, key in keys.items())
    path.write_text(text)
    os.utime(path, ns=(1, hash(text) % 10**9))


def test_keys_of_the_command_line():
    """They are found, may do everything, and a wrong or missing one is refused without a word of the others."""
    ring = KeyRing(["sk-one", "sk-two"], None, Clock())
    assert not ring.open
    assert ring.find(b"sk-two").name == "key-2"
    assert ring.find(b"sk-two").entry.admin
    for offered in (b"", b"sk-three", b"sk-on\xff"):
        with pytest.raises(Unauthorized):
            ring.find(offered)


def test_no_keys():
    """A server without keys lets everybody in; one with an empty file of keys nobody."""
    assert KeyRing([], None, Clock()).open


def test_empty_file_lets_nobody_in(tmp_path):
    """An empty file is no invitation."""
    path = tmp_path / "keys.toml"
    path.write_text("")
    ring = KeyRing([], path, Clock())
    assert not ring.open
    with pytest.raises(Unauthorized):
        ring.find(b"anything")


def test_file_that_changes(tmp_path):
    """New keys work within a second, withdrawn ones no longer, and the books of the others go on."""
    path, clock = tmp_path / "keys.toml", Clock()
    _write(path, {"a": "sk-a", "b": "sk-b"})
    ring = KeyRing(["sk-root"], path, clock)
    ring.find(b"sk-b").admit(0.0)
    _write(path, {"b": "sk-b", "c": "sk-c"})
    clock.now_s = 2.0
    with capture_logs() as logs:
        assert ring.find(b"sk-c").name == "c"
    assert logs[0]["event"] == "keys_read"
    assert ring.find(b"sk-b").requests == 1
    assert ring.find(b"sk-root").name == "key-1"
    with pytest.raises(Unauthorized):
        ring.find(b"sk-a")


def test_file_that_breaks(tmp_path):
    """A file that cannot be used any more is logged once, and the keys read before go on working."""
    path, clock = tmp_path / "keys.toml", Clock()
    _write(path, {"a": "sk-a"})
    ring = KeyRing([], path, clock)
    path.write_text("[[keys]")
    with capture_logs() as logs:
        for now_s in (2.0, 4.0):
            clock.now_s = now_s
            assert ring.find(b"sk-a").name == "a"
    assert [entry["event"] for entry in logs] == ["keys_not_read"]


def test_file_that_is_broken_at_the_start(tmp_path):
    """A server does not start with keys that it cannot read."""
    path = tmp_path / "keys.toml"
    path.write_text("x")
    with pytest.raises(InvalidArgument):
        KeyRing([], path, Clock())
