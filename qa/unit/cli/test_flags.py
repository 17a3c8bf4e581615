"""The flags of tritonserver: each is in the table and in the help, with a fate that is true."""

import dataclasses

import pytest

from tritium.cli.options import ServeOptions
from tritium.cli.tritonserver import read, usage
from tritium.compat.flag_help import GROUPS
from tritium.compat.flags import BY_NAME, FLAGS, Fate

SAMPLES = {
    "<boolean>": "true",
    "<integer>": "7",
    "<float>": "7",
    "<apis>,<key>=<value>": "health,k=v",
    "<calls>,<key>=<value>": "health,k=v",
    "<setting>=<value>": "summary_latencies=true",
    "<mode>,<setting>=<value>": "triton,file=t",
    "<backend>,<setting>=<value>": "python,k=v",
    "<cache>,<setting>=<value>": "local,size=1048576",
    "<name>:<count>:<device>": "R1:4:0",
    "<integer>-<integer>": "1-9",
    "<device>:<fraction>": "0:0.5",
}
"""A value for each shape that the help shows."""
WORDS = {
    "model-control-mode": "explicit",
    "trace-level": "TIMESTAMPS",
    "log-format": "ISO8601",
    "rate-limit": "execution_count",
    "grpc-infer-response-compression-level": "high",
    "load-model": "x --model-control-mode=explicit",
    "grpc-use-ssl": "true --grpc-server-cert=c --grpc-server-key=k",
    "grpc-use-ssl-mutual": "true --grpc-server-cert=c --grpc-server-key=k --grpc-root-cert=r",
    "grpc-server-cert": "c --grpc-use-ssl=true --grpc-server-key=k",
    "grpc-server-key": "k --grpc-use-ssl=true --grpc-server-cert=c",
    "grpc-root-cert": "r --grpc-use-ssl-mutual=true --grpc-server-cert=c --grpc-server-key=k",
}


def test_every_flag_is_explained_once():
    """The table of fates and the help name the same flags, the 91 of tritonserver."""
    explained = [row.name for rows in GROUPS.values() for row in rows]
    assert len(explained) == len(set(explained)) == len(FLAGS) == len(BY_NAME) == 91
    assert set(explained) == set(BY_NAME)


SET = [row for rows in GROUPS.values() for row in rows if BY_NAME[row.name].fate is Fate.SET and row.name != "help"]


@pytest.mark.parametrize("row", SET, ids=lambda row: row.name)
def test_a_flag_that_sets_something_is_taken(row):
    """A value as the help shows it is read, and lands in a setting that the environment and a file have as well."""
    value = WORDS.get(row.name) or SAMPLES.get(row.value, "x")
    line = f"--{row.name}={value}" if row.value else f"--{row.name}"
    options, parsed = read(["--model-repository=/a", *line.split()])
    settings = {field.name for field in dataclasses.fields(ServeOptions)}
    assert set(parsed.settings) <= settings
    assert options.repositories[0] == "/a"
    assert len(parsed.settings) > 1 or len(options.repositories) == 2, "it sets nothing"


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag.fate is not Fate.SET], ids=lambda flag: flag.name)
def test_a_flag_without_effect_says_so(flag):
    """A flag that changes nothing says why when it is given; one that cannot be honoured stops the start."""
    shape = next(row.value for rows in GROUPS.values() for row in rows if row.name == flag.name)
    value = SAMPLES.get(shape, "x")
    assert flag.note in usage()
    if flag.fate is Fate.NOTED:
        _, parsed = read(["--model-repository=/a", f"--{flag.name}={value}"])
        assert parsed.notes == [f"--{flag.name} changes nothing: {flag.note}"]
    else:
        with pytest.raises(Exception, match="is not available in this version"):
            read(["--model-repository=/a", f"--{flag.name}={value}"])


def test_the_help_shows_what_a_flag_takes_and_its_default():
    """As tritonserver lays it out: the flag and its value, then what it does."""
    assert "  --http-port <integer>\n\tPort of HTTP.  [8000]\n" in usage()
    assert "\nDEPRECATED:\n  --strict-model-config <boolean>\n" in usage()


def test_durations_in_milliseconds_become_seconds():
    """Triton's flags of gRPC count milliseconds, our settings count seconds."""
    options, _ = read(["--model-repository=/a", "--grpc-keepalive-time=1500", "--grpc-max-connection-age", "250"])
    assert (options.grpc_keepalive_s, options.grpc_connection_age_s) == (1.5, 0.25)


@pytest.mark.parametrize(
    ("flags", "environment", "metrics", "openai"),
    [
        ([], {}, "", ""),
        (["--http-address=127.0.0.1"], {}, "127.0.0.1", "127.0.0.1"),
        (["--http-address=127.0.0.1", "--metrics-address=10.0.0.1"], {}, "10.0.0.1", "127.0.0.1"),
        (["--http-address=127.0.0.1"], {"TRITIUM_OPENAI_HOST": "10.0.0.2"}, "127.0.0.1", "10.0.0.2"),
    ],
)
def test_other_ports_follow_the_address_of_http(monkeypatch, flags, environment, metrics, openai):
    """A server that was told to stay on one address opens no port of its own accord on all of them."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options, _ = read(["--model-repository=/a", *flags])
    assert (options.host, options.metrics_host, options.openai_host) == ("0.0.0.0", metrics, openai)


PEM = ["--grpc-server-cert=c.pem", "--grpc-server-key=k.pem", "--grpc-root-cert=a.pem"]


@pytest.mark.parametrize(
    ("flags", "used"),
    [
        ([], set()),
        (["--grpc-use-ssl=false"], set()),
        (["--grpc-use-ssl=true"], {"grpc_cert", "grpc_key"}),
        (["--grpc-use-ssl-mutual=false"], {"grpc_cert", "grpc_key"}),
        (["--grpc-use-ssl-mutual=true"], {"grpc_cert", "grpc_key", "grpc_client_ca"}),
    ],
)
def test_certificates_are_used_where_tls_is_asked_for(flags, used):
    """As in Triton: the certificate with either kind of TLS, the authority with the mutual one; others are noted."""
    options, parsed = read(["--model-repository=/a", *PEM, *flags])
    assert {name for name in ("grpc_cert", "grpc_key", "grpc_client_ca") if getattr(options, name)} == used
    assert len(parsed.notes) == 3 - len(used)


@pytest.mark.parametrize(
    "flags", [["--grpc-use-ssl=true"], ["--grpc-use-ssl=true", PEM[0]], ["--grpc-use-ssl-mutual=true", *PEM[:2]]]
)
def test_tls_without_its_files_is_refused(flags):
    """A server that was asked for TLS does not start without."""
    with pytest.raises(Exception, match="needs --grpc-"):
        read(["--model-repository=/a", *flags])


@pytest.mark.parametrize(
    ("flags", "completes", "warnings"),
    [
        ("", True, []),
        ("--disable-auto-complete-config", False, []),
        ("--strict-model-config=false", True, ["has been deprecated! Please use '--disable-auto-complete-config'"]),
        ("--strict-model-config=true", False, ["has been deprecated! Please use '--disable-auto-complete-config'"]),
        (
            "--disable-auto-complete-config --strict-model-config=false",
            False,
            ["has been deprecated!", "Overriding deprecated '--strict-model-config' from False to True in favor of"],
        ),
    ],
)
def test_two_flags_switch_auto_completion_off(flags: str, *, completes: bool, warnings: list[str]) -> None:
    """Either is enough; the older is warned of, and overruled by the newer, in Triton's words."""
    options, parsed = read(["--model-repository=r", *flags.split()])
    assert options.auto_complete is completes
    assert len(parsed.notes) == len(warnings)
    assert all(said in note for said, note in zip(warnings, parsed.notes, strict=True))
