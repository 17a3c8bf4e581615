"""The settings of `tritium serve`: one frozen dataclass that the command line, the environment and a file load alike.

    defaults < file (--config, TOML) < environment (TRITIUM_*) < command line

`--help`, the table in docs/settings.md and `--print-config` are made from the fields below; `Loaded` remembers
where each value came from.
"""

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, get_args, get_origin

CONTROL_MODES = ("none", "explicit", "poll")
RATE_LIMITS = ("off", "execution_count")
LOG_FORMATS = ("console", "json", "default", "ISO8601")
TRANSPORTS = ("h2", "grpcio")
ROLES = ("server", "front")
EFFORTS = ("none", "low", "medium", "high")


class SettingsError(Exception):
    """A setting that cannot be used: which, where it came from, and what is allowed."""


class WrongValue(SettingsError):
    """A value that does not fit the setting it was given for; `source` is where it was given."""

    def __init__(self, source: str, setting: str, complaint: str) -> None:
        super().__init__(f"{source}: {setting} {complaint}")
        self.setting = setting
        self.complaint = complaint


def setting(default: Any, help_text: str, *, group: str, choices: Sequence[str] = ()) -> Any:
    """Return a field of a settings class."""
    metadata = {"help": help_text, "group": group, "choices": tuple(choices)}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Everything `tritium serve` can be told. Durations are in seconds, sizes in bytes; port 0 takes a free one."""

    repositories: tuple[str, ...] = setting((), "Model repositories to serve.", group="models")
    control_mode: str = setting("none", "When models are loaded.", group="models", choices=CONTROL_MODES)
    load_model: tuple[str, ...] = setting((), "Models to load at start in explicit mode ('*': all).", group="models")
    poll_s: float = setting(15.0, "How often poll mode looks at the repositories.", group="models")
    auto_complete: bool = setting(True, "Complete configurations from the models' own files.", group="models")
    config_name: str = setting("", "Read configs/NAME.pbtxt where a model has it.", group="models")
    exit_on_error: bool = setting(True, "Exit when any model fails to load at start.", group="models")
    strict_readiness: bool = setting(True, "Be ready only when every model is.", group="models")
    load_threads: int = setting(4, "How many models are loaded at the same time.", group="models")
    load_retries: int = setting(0, "How often a model that fails to load is tried again.", group="models")
    namespacing: bool = setting(False, "Let models of different repositories have the same name.", group="models")
    on_demand_models: int = setting(
        0, "Load models when they are asked for, at most this many at a time (0: off).", group="models"
    )
    on_demand_bytes: int = setting(
        0, "Likewise, as long as all processes use no more memory than this (0: off).", group="models"
    )
    cloud_cache: str = setting("", "Folder for copies of models in object stores.", group="models")
    cpu_for_gpu: bool = setting(False, "Run KIND_GPU instances on the CPU where there is no GPU.", group="models")
    backend_config: tuple[str, ...] = setting((), "Settings of a backend, as NAME,key=value.", group="models")
    backend_directory: str = setting("", "Folder of backends written in Python, as NAME/model.py.", group="models")

    rate_limit: str = setting(
        "off", "Whether instances wait for resources before they run.", group="models", choices=RATE_LIMITS
    )
    rate_limit_resource: tuple[str, ...] = setting(
        (), "How many of a resource there are, as NAME:COUNT or NAME:COUNT:DEVICE.", group="models"
    )

    cache_config: tuple[str, ...] = setting(
        (), "The cache of responses, as local,size=BYTES or redis,host=HOST and redis,port=PORT.", group="models"
    )

    host: str = setting("127.0.0.1", "Address that every protocol binds (0.0.0.0: all).", group="protocols")
    http: bool = setting(True, "Serve KServe v2 over HTTP.", group="protocols")
    http_host: str = setting("", "Address of KServe v2 over HTTP, where it is not --host.", group="protocols")
    http_port: int = setting(8000, "Port of KServe v2 over HTTP.", group="protocols")
    http_body_bytes: int = setting(
        64 << 20, "Largest JSON, raw tensor or unpacked body of an HTTP request (0: any).", group="protocols"
    )
    http_upload_bytes: int = setting(
        (2 << 30) - 1, "Largest HTTP request altogether, binary tensors included (0: any).", group="protocols"
    )
    http_header_bytes: int = setting(64 << 10, "Largest head of an HTTP request.", group="protocols")
    http_header_s: float = setting(
        30.0, "How long the head of an HTTP request may take to arrive (0: any time).", group="protocols"
    )
    http_idle_s: float = setting(
        75.0, "How long a silent HTTP connection is kept open (0: for ever).", group="protocols"
    )
    http_connections: int = setting(0, "Most HTTP connections at a time; more get 503 (0: any).", group="protocols")
    http_cert: str = setting("", "Server certificate (PEM) of HTTP; TLS is on where it is set.", group="protocols")
    http_key: str = setting("", "Private key (PEM) of the HTTP server certificate.", group="protocols")
    http_client_ca: str = setting("", "Certificate authority (PEM) that HTTP clients must have.", group="protocols")
    http_restricted: tuple[str, ...] = setting(
        (), "Parts of HTTP that need a header, as API,...:HEADER=VALUE.", group="protocols"
    )
    http_forward_headers: str = setting(
        "", "Headers of HTTP requests that become their parameters: a regular expression.", group="protocols"
    )
    sagemaker: bool = setting(False, "Serve the endpoints of Amazon SageMaker.", group="protocols")
    sagemaker_host: str = setting("", "Address of the SageMaker endpoints, where it is not --host.", group="protocols")
    sagemaker_port: int = setting(8080, "Port of the SageMaker endpoints.", group="protocols")
    sagemaker_safe_ports: str = setting(
        "", "Ports that other protocols may use beside SageMaker, as LOWEST-HIGHEST.", group="protocols"
    )
    vertex_ai: bool = setting(False, "Serve the endpoints of Google Vertex AI.", group="protocols")
    vertex_ai_host: str = setting("", "Address of the Vertex AI endpoints, where it is not --host.", group="protocols")
    vertex_ai_port: int = setting(8080, "Port of the Vertex AI endpoints.", group="protocols")
    vertex_ai_model: str = setting(
        "", "Model that Vertex AI's predictions are for (none: the only one there is).", group="protocols"
    )
    client_shm: bool = setting(False, "Let clients register shared memory regions.", group="protocols")
    grpc: bool = setting(True, "Serve KServe v2 over gRPC.", group="protocols")
    grpc_host: str = setting("", "Address of KServe v2 over gRPC, where it is not --host.", group="protocols")
    grpc_port: int = setting(8001, "Port of KServe v2 over gRPC.", group="protocols")
    grpc_transport: str = setting("h2", "Which gRPC server runs.", group="protocols", choices=TRANSPORTS)
    grpc_cert: str = setting("", "Server certificate (PEM) of gRPC; TLS is on where it is set.", group="protocols")
    grpc_key: str = setting("", "Private key (PEM) of the gRPC server certificate.", group="protocols")
    grpc_client_ca: str = setting("", "Certificate authority (PEM) that gRPC clients must have.", group="protocols")
    http_port_shared: bool = setting(
        False, "Share the port of HTTP with other servers that share it, too.", group="protocols"
    )
    grpc_port_shared: bool = setting(
        False, "Share the port of gRPC with other servers that share it, too.", group="protocols"
    )
    grpc_restricted: tuple[str, ...] = setting(
        (), "Parts of gRPC that need a header, as PROTOCOL,...:HEADER=VALUE.", group="protocols"
    )
    grpc_forward_headers: str = setting(
        "", "Headers of gRPC calls that become parameters of requests: a regular expression.", group="protocols"
    )
    grpc_compression: str = setting(
        "none", "What is spent on compressing answers to inferences over gRPC.", group="protocols", choices=EFFORTS
    )
    grpc_keepalive_s: float = setting(
        7200.0, "After so long a silence a gRPC client is pinged (0: never).", group="protocols"
    )
    grpc_keepalive_timeout_s: float = setting(
        20.0, "How long a gRPC client may take to answer a ping (0: any time).", group="protocols"
    )
    grpc_keepalive_without_calls: bool = setting(
        False, "Permit pings on gRPC connections that have no call under way.", group="protocols"
    )
    grpc_pings_without_data: int = setting(
        2, "How many pings are sent to a gRPC client before the next message (0: any).", group="protocols"
    )
    grpc_client_ping_s: float = setting(
        300.0, "A gRPC client that pings sooner than this, without data in between, earns a strike.", group="protocols"
    )
    grpc_ping_strikes: int = setting(
        2, "How many strikes a gRPC connection is forgiven before it is closed (0: any).", group="protocols"
    )
    grpc_connection_age_s: float = setting(
        0.0, "At this age gRPC connections take no new calls (0: they do for ever).", group="protocols"
    )
    grpc_connection_grace_s: float = setting(
        0.0, "How long calls may go on at a gRPC connection that is too old (0: to their end).", group="protocols"
    )
    metrics: bool = setting(True, "Serve Prometheus metrics.", group="protocols")
    metrics_host: str = setting("", "Address of the metrics, where it is not --host.", group="protocols")
    metrics_port: int = setting(8002, "Port of the metrics.", group="protocols")
    metrics_config: tuple[str, ...] = setting(
        (), "Forms of latency metrics, as summary_latencies=true or histogram_latencies=true.", group="server"
    )
    metrics_interval_ms: float = setting(2000.0, "How often CPU and memory are looked at, at most.", group="server")
    cpu_metrics: bool = setting(True, "Give metrics of the machine's CPU and memory.", group="server")
    pinned_memory_bytes: int = setting(
        256 << 20, "Pinned memory pool that metrics report; nothing uses it here.", group="server"
    )
    openai: bool = setting(True, "Serve the OpenAI API.", group="protocols")
    openai_host: str = setting("", "Address of the OpenAI API, where it is not --host.", group="protocols")
    openai_port: int = setting(9000, "Port of the OpenAI API.", group="protocols")
    openai_inflight: int = setting(0, "Most OpenAI requests under way; more get 429 (0: any).", group="protocols")
    openai_timeout_s: float = setting(
        0.0,
        "How long a request of a language model may take, OpenAI's or KServe's, to its last token (0: any time).",
        group="protocols",
    )
    openai_key: tuple[str, ...] = setting(
        (), "API keys the OpenAI port accepts (none: no key asked).", group="protocols"
    )
    openai_keys: str = setting(
        "", "File of API keys by their hash, with models and limits (tritium key).", group="protocols"
    )
    openai_responses: int = setting(
        1000, "Most responses of /v1/responses kept in memory (0: none).", group="protocols"
    )
    openai_responses_bytes: int = setting(64 << 20, "Most bytes of responses kept in memory.", group="protocols")
    openai_unknown_fields: str = setting(
        "refuse",
        "What becomes of fields of OpenAI requests that nobody knows: ignored ones are warned of in the log.",
        group="protocols",
        choices=("refuse", "ignore"),
    )
    openai_body_bytes: int = setting(64 << 20, "Largest body of an OpenAI request (0: any).", group="protocols")
    openai_cors_origin: tuple[str, ...] = setting(
        (), "Web origins whose pages may read the OpenAI port's answers (*: all).", group="protocols"
    )
    allowed_media_host: tuple[str, ...] = setting(
        (),
        "Hosts that images and their like are fetched from: NAME, *.DOMAIN, * or addresses (none: no fetching).",
        group="protocols",
    )
    openai_media_bytes: int = setting(32 << 20, "Largest image, sound or film of an OpenAI request.", group="protocols")
    openai_media_s: float = setting(10.0, "How long fetching one of them may take.", group="protocols")
    openai_cert: str = setting(
        "", "Server certificate (PEM) of the OpenAI port; TLS is on where it is set.", group="protocols"
    )
    openai_cert_key: str = setting("", "Private key (PEM) of the OpenAI port's certificate.", group="protocols")
    openai_client_ca: str = setting(
        "", "Certificate authority (PEM) that clients of the OpenAI port must have.", group="protocols"
    )

    engine: str = setting(
        "auto",
        "What runs language models: vllm, embedded, mocker, ... (auto: vllm if installed).",
        group="language",
    )
    fleet: tuple[str, ...] = setting(
        (), "Workers of a language model, as MODEL=workers=2 or MODEL=prefill=1,decode=2.", group="language"
    )
    tool_parser: tuple[str, ...] = setting(
        (), "How a model writes tool calls, as MODEL=hermes (otherwise its chat template shows it).", group="language"
    )
    reasoning_parser: tuple[str, ...] = setting(
        (), "How a model marks what it thinks, as MODEL=qwen3 (otherwise its chat template shows it).", group="language"
    )

    chat_template: tuple[str, ...] = setting(
        (), "Chat template in place of a model's own, as MODEL=FILE.", group="language"
    )
    trust_request_chat_template: bool = setting(
        False, "Let requests bring a chat template of their own.", group="language"
    )

    role: str = setting(
        "server",
        "What this is: a front has no models of its own, but those of workers it finds.",
        group="cluster",
        choices=ROLES,
    )
    discovery: str = setting(
        "",
        "Where workers announce themselves: etcd://HOST:2379 or file:/FOLDER (none: nobody is looked for).",
        group="cluster",
    )
    namespace: tuple[str, ...] = setting(
        (), "Namespaces whose workers are served (none: default); of two models of a name the first's.", group="cluster"
    )
    events: str = setting(
        "local",
        "How fronts learn what workers cache: local (by their connections), or nats://HOST:4222.",
        group="cluster",
    )
    cluster_secret: str = setting("", "File with the secret that workers and fronts share.", group="cluster")
    cluster_ca: str = setting(
        "", "Certificate authority (PEM) of workers and fronts; where it is set they speak TLS.", group="cluster"
    )
    cluster_cert: str = setting("", "Certificate (PEM) that is shown to workers.", group="cluster")
    cluster_cert_key: str = setting("", "Private key (PEM) of that certificate.", group="cluster")
    discovery_password: str = setting(
        "", "File with the password of the user in etcd://USER@HOST:2379.", group="cluster"
    )
    discovery_ca: str = setting("", "Certificate authority (PEM) of etcd; where it is set it is TLS.", group="cluster")
    discovery_cert: str = setting("", "Certificate (PEM) that is shown to etcd.", group="cluster")
    discovery_cert_key: str = setting("", "Private key (PEM) of that certificate.", group="cluster")
    card_cache: str = setting(
        "", "Folder for tokenizers and templates of found models (none: ~/.cache/tritium/cards).", group="cluster"
    )

    server_id: str = setting("tritium", "Name the server gives in its metadata.", group="server")
    log_format: str = setting("console", "How log lines look.", group="server", choices=LOG_FORMATS)
    log_level: str = setting(
        "info", "The least severe level that is logged.", group="server", choices=("debug", "info", "warning", "error")
    )
    log_info: bool = setting(True, "Log what is worth knowing, too.", group="server")
    log_warning: bool = setting(True, "Log warnings.", group="server")
    log_error: bool = setting(True, "Log errors.", group="server")
    log_verbose: int = setting(0, "Log details; 1 and more as debug does, and every request.", group="server")
    access_log: bool = setting(False, "Log a line for every request.", group="server")
    log_file: str = setting("", "Log to this file instead of standard error.", group="server")
    trace_config: tuple[str, ...] = setting(
        (), "What is traced, as level=TIMESTAMPS, rate=10 or triton,file=PATH (docs/tracing.md).", group="server"
    )
    exit_timeout_s: float = setting(30.0, "How long a shutdown waits for requests in flight.", group="server")


_CREDENTIALS = re.compile(r"(://)[^,\s]+@")
"""Who a URL is asked as, and by which password; a path with an @ is hidden rather than a password with a / shown."""

SECRETS = frozenset({"cache_config", "openai_key", "http_restricted", "grpc_restricted"})

PREFIX = "TRITIUM_"
INTERNAL = frozenset({"TRITIUM_KV_TRANSFER", "TRITIUM_WORKER_PID"})
"""Variables by which a server tells its own workers something."""


Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Options]):
    """The options, and for each field that is not its default, where its value came from.

    `notes` say which variables of the environment look like settings and are none.
    """

    options: Options
    origin: Mapping[str, str]
    notes: Sequence[str] = ()


def load(
    command_line: Mapping[str, Any], file: Path | None, environment: Mapping[str, str] = os.environ
) -> Loaded[ServeOptions]:
    """Merge the three sources of a server's settings; raises as `load_as` does."""
    return load_as(ServeOptions, command_line, file, environment)


def load_as(
    kind: type[Options], command_line: Mapping[str, Any], file: Path | None, environment: Mapping[str, str] = os.environ
) -> Loaded[Options]:
    """Merge the three sources into one class of settings; `command_line` holds only what was given.

    Raises:
        SettingsError: an unknown name, or a value that does not fit.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    fields = {f.name: f for f in dataclasses.fields(cast("Any", kind))}
    for source, given in (
        (str(file), _read_file(file) if file else {}),
        ("environment", _read_environment(environment, fields)),
        ("command line", command_line),
    ):
        for name, value in given.items():
            if name not in fields:
                raise SettingsError(f"{source}: unknown setting '{name}'. {_suggest(name, fields)}")
            values[name] = _convert(fields[name], value, source)
            origin[name] = source
    # A machine's environment may be meant for servers and workers alike.
    known = {f.name: f for f in dataclasses.fields(ServeOptions)} | fields
    return Loaded(kind(**values), origin, _unknown_variables(environment, known))


def describe(loaded: Loaded[Any]) -> str:
    """Render every setting with its value and origin, secrets hidden, one a line."""
    lines = []
    for f in dataclasses.fields(loaded.options):
        value = getattr(loaded.options, f.name)
        shown = "***" if f.name in SECRETS and value else _without_passwords(value)
        lines.append(f"{f.name:18} = {shown!r:32}  # {loaded.origin.get(f.name, 'default')}")
    return "\n".join(lines)


def _without_passwords(value: Any) -> Any:
    """Return a setting's value with what stands before the @ of its URLs hidden."""
    if isinstance(value, tuple):
        return tuple(map(_without_passwords, value))
    return _CREDENTIALS.sub(r"\1***@", value) if isinstance(value, str) else value


def element_type(f: "dataclasses.Field[Any]") -> type:
    """Return the type of a field's value, or of its elements where it is a tuple."""
    kind: Any = f.type
    element: type = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return element


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from None


def _read_environment(environment: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, f in fields.items():
        raw = environment.get(f"{PREFIX}{name.upper()}")
        if raw is not None:
            # The colon of s3:// separates nothing.
            pattern = ":(?!//)" if name == "repositories" else ";"
            found[name] = re.split(pattern, raw) if get_origin(f.type) is tuple else raw
    return found


def _unknown_variables(environment: Mapping[str, str], fields: Mapping[str, Any]) -> list[str]:
    """Name the variables that set nothing; they may be misspelt, or belong to something else."""
    notes = []
    for variable in sorted(name for name in environment if name.startswith(PREFIX) and name not in INTERNAL):
        name = variable.removeprefix(PREFIX).lower()
        if name not in fields:
            notes.append(f"environment: {variable} is no setting. {_suggest(name, fields, PREFIX)}")
    return notes


def _convert(f: "dataclasses.Field[Any]", value: Any, source: str) -> Any:
    kind = element_type(f)
    if get_origin(f.type) is tuple:
        if not isinstance(value, (list, tuple)):
            raise WrongValue(source, f.name, f"takes a list, not {value!r}")
        return tuple(_convert_one(f, kind, item, source) for item in value)
    return _convert_one(f, kind, value, source)


def _convert_one(f: "dataclasses.Field[Any]", kind: type, value: Any, source: str) -> Any:
    if kind is bool and isinstance(value, str):
        if value.lower() in ("true", "1", "on", "yes"):
            return True
        if value.lower() in ("false", "0", "off", "no"):
            return False
        raise WrongValue(source, f.name, f"takes true or false, not {value!r}")
    try:
        converted = kind(value)
    except (TypeError, ValueError):
        raise WrongValue(source, f.name, f"takes {kind.__name__}, not {value!r}") from None
    if converted != converted:  # noqa: PLR0124  only what is no number differs from itself
        raise WrongValue(source, f.name, f"takes a number, not {value!r}")
    choices = f.metadata["choices"]
    if choices and converted not in choices:
        raise WrongValue(source, f.name, f"is one of {', '.join(choices)}, not {value!r}")
    if f.name.endswith("_port") and not 0 <= converted <= 65535:
        raise WrongValue(source, f.name, f"is a port from 0 to 65535, not {value!r}")
    return converted


def _suggest(name: str, fields: Mapping[str, Any], prefix: str = "") -> str:
    from difflib import get_close_matches  # noqa: PLC0415  (not paid by --help)

    close = get_close_matches(name, fields, n=1)
    if not close:
        return "See tritium serve --help."
    return f"Did you mean {prefix}{close[0].upper() if prefix else close[0]}?"
