"""`tritium key`: a key to hand out, and the entry by which the server knows it."""

from click.testing import CliRunner

from tritium.cli.main import main
from tritium.openai.keys.entry import key_hash, read_keys


def test_key_and_its_entry(tmp_path):
    """What standard output gets is a file of keys; the key itself is not in it."""
    options = ["--model", "llama-*", "--model", "tiny", "--tokens-per-minute", "9000", "--concurrent", "2", "--admin"]
    made = CliRunner().invoke(main, ["key", "team-a", *options])
    assert made.exit_code == 0
    secret = made.stderr.splitlines()[0].removeprefix("team-a: ")
    assert secret not in made.stdout
    path = tmp_path / "keys.toml"
    path.write_text(made.stdout)
    [entry] = read_keys(path)
    assert (entry.name, entry.sha256, entry.models) == ("team-a", key_hash(secret), ("llama-*", "tiny"))
    assert (entry.requests_per_minute, entry.tokens_per_minute, entry.concurrent) == (None, 9000, 2)
    assert entry.admin


def test_entries_are_appended(tmp_path):
    """Entries of several keys stand in one file."""
    text = "".join(CliRunner().invoke(main, ["key", name]).stdout for name in ("a", "b"))
    path = tmp_path / "keys.toml"
    path.write_text(text)
    assert [entry.name for entry in read_keys(path)] == ["a", "b"]


def test_name_that_no_entry_may_have():
    """A name that the file would be refused for is refused here."""
    made = CliRunner().invoke(main, ["key", "team a"])
    assert made.exit_code == 2
    assert "does not match" in made.stderr or "matching" in made.stderr
