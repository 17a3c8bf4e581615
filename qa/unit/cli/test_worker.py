"""What an operator may write to `tritium worker` and to a front, and what is said of what cannot be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tritium.cli.assembly import assemble
from tritium.cli.cluster_settings import discovery_of, security_of
from tritium.cli.options import ServeOptions, SettingsError, load_as
from tritium.cli.worker_model import find_worker_model
from tritium.cli.worker_options import WorkerOptions
from tritium.cli.worker_settings import WorkerSettings
from tritium.llm.settings import engine_arguments
from tritium.repository.events import ignore_event

TINY_CHAT = Path(__file__).parents[3] / "model_repository" / "tiny_chat"
TRITIUM = str(Path(sys.executable).with_name("tritium"))


def test_a_model_of_a_repository(tmp_path):
    """The folder of a repository's model is served as it is, in its newest version."""
    found = find_worker_model(WorkerOptions(model=str(TINY_CHAT)), tmp_path)
    assert (found.source.config.name, found.source.version, found.source.folder) == ("tiny_chat", "1", TINY_CHAT)
    assert 'backend: "vllm"' in found.config


def test_a_version_of_a_model(tmp_path):
    """A version's folder is that version of the model above it."""
    found = find_worker_model(WorkerOptions(model=str(TINY_CHAT / "1")), tmp_path)
    assert (found.source.config.name, found.source.version, found.source.folder) == ("tiny_chat", "1", TINY_CHAT)


def test_a_model_s_own_folder(tmp_path):
    """A folder with weights is given a model.json of its own, elsewhere."""
    weights = TINY_CHAT / "1" / "tiny_chat"
    found = find_worker_model(WorkerOptions(model=str(weights), name="talker"), tmp_path)
    assert found.source.config.name == "talker"
    assert json.loads((found.source.version_folder / "model.json").read_text()) == {"model": str(weights)}


def test_a_repository_is_no_model(tmp_path):
    """A model's folder in it is named instead."""
    with pytest.raises(SettingsError, match=r"is a repository(.|\n)*such as .*/model_repository/"):
        find_worker_model(WorkerOptions(model=str(TINY_CHAT.parent)), tmp_path)


def test_a_misspelt_model_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    """Where the folder before the slash holds models; the nearest of them is named."""
    monkeypatch.chdir(TINY_CHAT.parents[1])
    with pytest.raises(SettingsError, match=r"no folder model_repository/tiny_chatt(.|\n)*model_repository/tiny_chat$"):
        find_worker_model(WorkerOptions(model="model_repository/tiny_chatt"), tmp_path)


def test_a_name_on_the_hub(tmp_path):
    """What is no folder and looks like a hub's name is one."""
    found = find_worker_model(WorkerOptions(model="Qwen/Qwen3-0.6B"), tmp_path)
    assert found.source.config.name == "Qwen3-0.6B"
    assert json.loads((found.source.version_folder / "model.json").read_text()) == {"model": "Qwen/Qwen3-0.6B"}


def test_arguments_of_the_engine(tmp_path):
    """Those of the command line go to the engine as those of config.pbtxt do, and not to fronts."""
    given = ("max_model_len=512", "enforce_eager=true")
    found = find_worker_model(WorkerOptions(model=str(TINY_CHAT), engine_argument=given), tmp_path)
    assert engine_arguments(found.source.config) == {"max_model_len": 512, "enforce_eager": True}
    assert "512" not in found.config


def test_the_name_is_what_fronts_serve(tmp_path):
    """A name in config.pbtxt does not stand against the name that the model is served by."""
    folder = tmp_path / "model"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('name: "model"\nbackend: "vllm"\n')
    found = find_worker_model(WorkerOptions(model=str(folder), name="other"), tmp_path)
    assert found.source.config.name == "other"
    assert '"model"' not in found.config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "no model to serve"),
        ({"model": "/nowhere/at/all"}, "there is no folder /nowhere/at/all"),
        ({"model": "./nowhere"}, "there is no folder"),
        ({"name": "../x"}, "is no name of a model"),
        ({"engine_argument": ("x",)}, "takes NAME=VALUE"),
        ({"listen": "nothing"}, "is no address"),
        ({"listen": "0.0.0.0:0"}, "nothing keeps strangers from using the worker"),
        ({"listen": "0.0.0.0:0", "cluster_open": True}, "nobody can be sent to 0.0.0.0:0"),
        ({"share": "2/2"}, "INDEX/COUNT"),
        ({"share": "x"}, "INDEX/COUNT"),
        ({"discovery": ""}, "where fronts and workers find one another"),
        ({"discovery": "consul://x"}, "is no discovery"),
        ({"cluster_secret": "/nowhere"}, "secret cannot be read"),
        ({"cluster_ca": "/nowhere"}, "an authority, a certificate and its key"),
    ],
)
async def test_settings_that_make_no_sense(options, words, tmp_path):
    """Each is found before anything is loaded, and the message says what to write."""
    given = {"model": str(TINY_CHAT), "discovery": f"file:{tmp_path}", **options}
    with pytest.raises(SettingsError, match=words):
        WorkerSettings(WorkerOptions(**given), tmp_path)


def test_a_broken_configuration(tmp_path):
    """A config.pbtxt that cannot be read is told with the line."""
    folder = tmp_path / "model"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text("bakcend: 1\n")
    with pytest.raises(SettingsError, match=r"config.pbtxt:1:1"):
        find_worker_model(WorkerOptions(model=str(folder)), tmp_path)
    (folder / "1").rmdir()
    with pytest.raises(SettingsError, match="has no version"):
        find_worker_model(WorkerOptions(model=str(folder)), tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"role": "front"}, "must know where workers announce themselves"),
        ({"role": "front", "discovery": "file:/x", "repositories": ("models",)}, "a front has no repositories"),
        ({"discovery": "nothing"}, "is no discovery"),
        ({"discovery": "file:/x", "cluster_cert": "/nowhere"}, "an authority, a certificate and its key"),
    ],
)
def test_fronts_that_make_no_sense(options, words):
    """A front without discovery, or with models of its own, is refused before any port opens."""
    with pytest.raises(SettingsError, match=words):
        assemble(ServeOptions(**options), ignore_event)


def test_the_environment_serves_both():
    """One environment may set what servers and workers have in common, and what only one of them has."""
    environment = {"TRITIUM_DISCOVERY": "file:/x", "TRITIUM_HTTP_PORT": "1", "TRITIUM_LISTEM": "x"}
    loaded = load_as(WorkerOptions, {}, None, environment)
    assert loaded.options.discovery == "file:/x"
    assert loaded.notes == ["environment: TRITIUM_LISTEM is no setting. Did you mean TRITIUM_LISTEN?"]
    with pytest.raises(SettingsError, match=r"role is one of aggregated, prefill, decode"):
        load_as(WorkerOptions, {"role": "both"}, None, {})


async def test_members_that_are_not_told_anything_are_open(tmp_path):
    """Without settings there is neither secret nor TLS; etcd's address is taken as it is written."""
    assert security_of(WorkerOptions()).secret is None
    assert not security_of(ServeOptions()).tls
    await discovery_of(ServeOptions(discovery="etcd://a:1,b:2/prefix")).close()


def test_an_engine_that_cannot_load(tmp_path):
    """The engine's words are shown, the status is 1, and nothing is announced."""
    command = [TRITIUM, "worker", str(TINY_CHAT), "--engine", "embedded", "--discovery", f"file:{tmp_path}"]
    ended = subprocess.run(
        [*command, "--engine-argument", "max_model_len=0"], capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 1, ended.stderr
    assert "max_model_len" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.rglob("*.json")) == []


def test_help_names_the_groups():
    """`tritium worker --help` answers without loading an engine."""
    told = subprocess.run([TRITIUM, "worker", "--help"], capture_output=True, text=True, check=True, timeout=100).stdout
    for word in ("Model:", "Worker:", "Cluster:", "--discovery", "--cluster-secret", "--drain-s"):
        assert word in told
