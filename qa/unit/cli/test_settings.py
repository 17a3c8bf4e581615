"""Settings come from the line, the environment and a file, in that order of weight, and say where they came from."""

import dataclasses
from pathlib import Path

import pytest

from tritium.cli.assembly import assemble
from tritium.cli.options import ServeOptions, SettingsError, describe, load
from tritium.cli.tritonserver import read
from tritium.compat.flags import FlagError
from tritium.repository.events import ignore_event

ROOT = Path(__file__).parents[3]


def test_the_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    """Each source overrides the one below it, and the origin of each value is kept."""
    file = tmp_path / "tritium.toml"
    file.write_text("http_port = 1\ngrpc_port = 1\nmetrics_port = 1\n")
    environment = {"TRITIUM_HTTP_PORT": "2", "TRITIUM_GRPC_PORT": "2"}
    loaded = load({"http_port": 3}, file, environment)
    options = loaded.options
    assert (options.http_port, options.grpc_port, options.metrics_port, options.openai_port) == (3, 2, 1, 9000)
    assert loaded.origin == {"http_port": "command line", "grpc_port": "environment", "metrics_port": str(file)}


@pytest.mark.parametrize(
    ("line", "environment", "message"),
    [
        ({"http_port": 70000}, {}, "http_port is a port from 0 to 65535"),
        ({}, {"TRITIUM_HTTP_PORT": "many"}, "environment: http_port takes int, not 'many'"),
        ({}, {"TRITIUM_EXIT_ON_ERROR": "maybe"}, "exit_on_error takes true or false"),
        ({"grpc_transport": "magic"}, {}, "grpc_transport is one of h2, grpcio"),
        ({"htp_port": 1}, {}, "Did you mean http_port?"),
    ],
)
def test_a_bad_value_names_itself_and_its_source(line: dict, environment: dict, message: str) -> None:
    """What is wrong, where it came from, and what is allowed are all in the message."""
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        load(line, None, environment)


def test_engines_are_those_that_are_installed() -> None:
    """An engine that no package offers is refused before anything is loaded, with those that there are."""
    with pytest.raises(SettingsError, match=r"engine is one of auto, .*embedded, .*mocker, .*vllm, not 'magic'"):
        assemble(ServeOptions(engine="magic", control_mode="explicit"), ignore_event)
    for name in ("auto", "embedded", "my_package.engine:MyEngine"):
        assemble(ServeOptions(engine=name, control_mode="explicit"), ignore_event)


def test_something_must_be_served() -> None:
    """Without a repository nothing could ever be loaded, except by clients that bring their models."""
    with pytest.raises(SettingsError, match=r"no model repository to serve\n  hint: tritium serve FOLDER"):
        assemble(ServeOptions(), ignore_event)
    assemble(ServeOptions(control_mode="explicit"), ignore_event)


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        ("tiny_cat=workers=2", "the model 'tiny_cat', which is in no repository\n  hint: did you mean tiny_chat?"),
        ("nope=workers=2", "the model 'nope', which is in no repository\n  hint: there are: accumulate, add_sub"),
        ("tiny_chat=worker=2", "unknown option 'worker' in --fleet tiny_chat=worker=2\n  hint: did you mean workers?"),
    ],
)
def test_a_fleet_that_nobody_would_get_is_refused(fleet: str, message: str) -> None:
    """A misspelt model or option is refused at start, with what may have been meant."""
    options = ServeOptions(repositories=(str(ROOT / "model_repository"),), fleet=(fleet,))
    with pytest.raises(SettingsError) as caught:
        assemble(options, ignore_event)
    assert message in str(caught.value)
    if "worker=" not in fleet:
        # In this mode the model may come later.
        assemble(dataclasses.replace(options, control_mode="explicit"), ignore_event)


def test_variables_that_set_nothing_are_named() -> None:
    """A misspelt variable of the environment is told, and does not stop the start: it may be another program's."""
    environment = {"TRITIUM_HTP_PORT": "1", "TRITIUM_ZZZ": "1", "TRITIUM_HTTP_PORT": "2", "OTHER": "3"}
    loaded = load({}, None, {**environment, "TRITIUM_WORKER_PID": "4"})
    assert loaded.options.http_port == 2
    assert list(loaded.notes) == [
        "environment: TRITIUM_HTP_PORT is no setting. Did you mean TRITIUM_HTTP_PORT?",
        "environment: TRITIUM_ZZZ is no setting. See tritium serve --help.",
    ]


def test_tritonserver_names_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drop-in command reads the same environment, and says the same of it."""
    monkeypatch.setenv("TRITIUM_OPENAI_PROT", "0")
    _, parsed = read(["--model-repository=/a"])
    assert parsed.notes == ["environment: TRITIUM_OPENAI_PROT is no setting. Did you mean TRITIUM_OPENAI_PORT?"]


def test_repositories_in_the_environment() -> None:
    """Colons separate repositories, but not the scheme of an address from its rest."""
    loaded = load({}, None, {"TRITIUM_REPOSITORIES": "/a:s3://bucket/models:b"})
    assert loaded.options.repositories == ("/a", "s3://bucket/models", "b")


def test_a_broken_file_is_reported_with_its_line(tmp_path: Path) -> None:
    """A TOML mistake names the file and the place."""
    file = tmp_path / "bad.toml"
    file.write_text("http_port = \n")
    with pytest.raises(SettingsError, match=r"bad\.toml: .*line 1"):
        load({}, file, {})


def test_secrets_are_not_shown() -> None:
    """--print-config hides keys, and the headers that stand for them."""
    given = {
        "openai_key": ["sk-hidden"],
        "http_restricted": ["logging:k=hidden"],
        "grpc_restricted": ["trace:k=hidden"],
    }
    shown = describe(load(given, None, {}))
    assert "hidden" not in shown
    assert shown.count("***") == len(given)


def test_a_time_that_is_no_number_is_refused() -> None:
    """nan is neither below nor above any bound, so that nothing would ever be too late."""
    with pytest.raises(SettingsError, match="takes a number, not 'nan'"):
        load({"exit_timeout_s": "nan"}, None, {})


def test_passwords_in_urls_are_not_shown() -> None:
    """--print-config hides who a URL is asked as in every setting, and leaves the address."""
    given = {
        "events": "nats://fleet:hidden@10.0.0.1:4222,tls://hidden/too@b:4223",
        "repositories": ["s3://key:hidden@host:9000/models", "models@home"],
        "trace_config": ["opentelemetry,url=http://u:hidden@collector:4318"],
    }
    shown = describe(load(given, None, {}))
    assert "hidden" not in shown
    assert "nats://***@10.0.0.1:4222,tls://***@b:4223" in shown
    assert "'s3://***@host:9000/models', 'models@home'" in shown
    assert "http://***@collector:4318" in shown


def test_tritonservers_flags_become_settings() -> None:
    """Both spellings of a value, repeated flags, lone booleans and deprecated names are taken."""
    line = "--model-repository=/a --model-store /b --http-port 18000 --grpc-port=18001 --allow-metrics=0"
    line += " --exit-on-error false --strict-model-config=true --log-verbose=1 --allow-gpu-metrics"
    line += " --model-config-name=big --load-model=x --load-model=y --model-control-mode=explicit --cache-config="
    options, parsed = read(line.split())
    assert options.repositories == ("/a", "/b")
    assert (options.http_port, options.grpc_port, options.metrics, options.exit_on_error) == (
        18000,
        18001,
        False,
        False,
    )
    assert (options.auto_complete, options.log_verbose, options.load_model) == (False, 1, ("x", "y"))
    assert options.config_name == "big"
    assert (options.host, options.server_id) == ("0.0.0.0", "triton")
    assert [note.split()[0] for note in parsed.notes] == ["--allow-gpu-metrics", "Warning:"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--model-repositry=/a"], "did you mean --model-repository"),
        (["--HTTP-PORT=1"], "did you mean --http-port"),
        (["--model-repository=/a", "--http-port=x"], "Invalid option value. Got x\n  hint: --http-port"),
        (["--http-port"], "option '--http-port' requires an argument"),
        (["/a"], "Unexpected argument: /a"),
        (["--model-repository=/a", "--allow-http=maybe"], "invalid value for bool option: maybe"),
        (["--model-repository=/a", "--http-port=99999999999999999999"], "option value is out of bound"),
        (["--model-repository=/a", "--model-control-mode=foo"], "invalid argument for --model-control-mode"),
        (["--model-repository=/a", "--backend-config=,k=v"], "--backend-config option format is"),
        (["--model-repository=/a", "--backend-config=k="], "--backend-config option format is"),
        (["--model-repository=/a", "--backend-config=python"], "--backend-config option format is"),
        (["--model-repository=/a", "--model-load-gpu-limit=-1:0.6"], "expects device ID >= 0, got -1"),
        (["--model-repository=/a", "--model-load-gpu-limit=0:-0.4"], r"in range \[0.0, 1.0\], got -0.4"),
        (["--model-repository=/a", "--load-model=x"], "requires setting '--model-control-mode=explicit' as well"),
        (["--model-repository=/a", "--model-config-name="], "empty argument for --model-config-name"),
        (["--model-repository=/a", "--http-max-input-size=0"], "--http-max-input-size must be greater than 0"),
        ([], "--model-repository must be specified"),
    ],
)
def test_a_bad_flag_is_refused(line: list[str], message: str) -> None:
    """What tritonserver would not take, or what cannot be honoured, is said and not ignored."""
    with pytest.raises(FlagError, match=message):
        read(line)


@pytest.mark.parametrize("protocol", ["http", "grpc", "metrics"])
def test_a_port_of_what_is_not_served_is_not_looked_at(protocol: str) -> None:
    """Start scripts give ports that no server could have to protocols that they switch off."""
    options, _ = read(["--model-repository=/a", f"--{protocol}-port", "-47", f"--allow-{protocol}", "0"])
    assert getattr(options, protocol) is False


@pytest.mark.parametrize("value", ["99999", "-1"])
def test_a_value_out_of_range_is_told_by_its_flag(value: str) -> None:
    """Whoever wrote a flag of tritonserver reads its name, not that of the setting behind it."""
    with pytest.raises(SettingsError, match=rf"^--grpc-port is a port from 0 to 65535, not {value}$"):
        read(["--model-repository=/a", f"--grpc-port={value}"])
