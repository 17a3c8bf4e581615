"""The file of API keys: read whole, refused with its place, and never a key in it."""

import pytest

from tritium.core.errors import InvalidArgument
from tritium.openai.keys.entry import KeyEntry, key_hash, new_key, read_keys

HASH = key_hash("sk-secret")


def _file(tmp_path, text):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    return path


def test_entries(tmp_path):
    """What is not written is not limited."""
    path = _file(
        tmp_path,
        f"""
        [[keys]]
        name = "team-a"
        sha256 = "{HASH}"
        models = ["llama-*", "tiny"]
        requests_per_minute = 60
        [[keys]]
        name = "team-b"
        sha256 = "{key_hash("other")}"
        """,
    )
    one, other = read_keys(path)
    assert one == KeyEntry("team-a", HASH, ("llama-*", "tiny"), 60)
    assert [one.allows(name) for name in ("llama-8b", "tiny", "tiny2")] == [True, True, False]
    assert other.allows("anything")
    assert (other.concurrent, other.tokens_per_minute, other.admin) == (None, None, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[keys]\n", "line 1"),
        ('[[keys]]\nname = "a"\n', "sha256"),
        (f'[[keys]]\nname = "a"\nsha256 = "{HASH}"\nrpm = 3\n', "rpm"),
        (f'[[keys]]\nname = "a"\nsha256 = "{HASH}"\nconcurrent = 0\n', "$.keys[0].concurrent"),
        ('[[keys]]\nname = "a"\nsha256 = "sk-secret"\n', "$.keys[0].sha256"),
        (f'[[keys]]\nname = "a"\nsha256 = "{HASH}"\n[[keys]]\nname = "b"\nsha256 = "{HASH}"\n', "twice"),
        (f'[[keys]]\nname = "a"\nsha256 = "{HASH}"\n[[keys]]\nname = "a"\nsha256 = "{key_hash("x")}"\n', "'a' twice"),
    ],
)
def test_faults(tmp_path, text, words):
    """A fault is told with the file's name and where in it."""
    path = _file(tmp_path, text)
    with pytest.raises(InvalidArgument) as caught:
        read_keys(path)
    assert str(path) in caught.value.message
    assert words in caught.value.message


def test_no_file(tmp_path):
    """A file that is not there is told by its name."""
    with pytest.raises(InvalidArgument, match=r"no\.toml cannot be read: No such file"):
        read_keys(tmp_path / "no.toml")


def test_new_keys_are_long_and_different():
    """Two keys are never the same, and none can be guessed."""
    one, other = new_key(), new_key()
    assert one != other
    assert len(one) > 40
    assert key_hash(one) != key_hash(other)
