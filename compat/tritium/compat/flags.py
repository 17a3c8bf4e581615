"""The command line of `tritonserver`: every flag by its spelling, and what it means here.

A flag is taken into a setting, noted (accepted, because it is about hardware or internals that do not exist here),
or refused, because ignoring it would serve something other than what was asked for.
Source: server/src/command_line_parser.cc, 2.73.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a flag."""

    SET = "set"
    NOTED = "noted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: `setting` names ours where it is SET.

    `kind` is bool, int, milliseconds (a setting in seconds), float, str, choice (a word in any case) or none (takes no
    value).
    """

    name: str
    kind: str
    fate: Fate
    setting: str = ""
    note: str = ""
    many: bool = False


class FlagError(Exception):
    """A command line that tritonserver would not take, or that cannot be honoured here; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n  hint: {hint}" if hint else message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Parsed:
    """The settings a command line asks for, and a note for each flag that changes nothing here."""

    settings: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    help: bool = False


def _set(name: str, kind: str, setting: str, *, many: bool = False) -> Flag:
    return Flag(name, kind, Fate.SET, setting, many=many)


def _noted(kind: str, note: str, *names: str) -> list[Flag]:
    return [Flag(name, kind, Fate.NOTED, note=note, many=True) for name in names]


def _refused(kind: str, what: str, *names: str) -> list[Flag]:
    return [Flag(name, kind, Fate.REFUSED, note=what, many=True) for name in names]


_GPU = "concerns GPU memory, which models here manage themselves"
_THREADS = "there are no such thread pools here: one event loop serves the protocol"
_POOLS = "there is no such pool here"

FLAGS: tuple[Flag, ...] = (
    Flag("help", "none", Fate.SET, "help", note="shows the flags"),
    _set("id", "str", "server_id"),
    _set("exit-timeout-secs", "float", "exit_timeout_s"),
    _set("model-store", "str", "repositories", many=True),
    _set("model-repository", "str", "repositories", many=True),
    _set("exit-on-error", "bool", "exit_on_error"),
    Flag("disable-auto-complete-config", "none", Fate.SET, "auto_complete", note="turns `auto_complete` off"),
    _set("strict-readiness", "bool", "strict_readiness"),
    _set("model-control-mode", "choice", "control_mode"),
    _set("repository-poll-secs", "float", "poll_s"),
    _set("model-config-name", "str", "config_name"),
    _set("load-model", "str", "load_model", many=True),
    _set("model-load-thread-count", "int", "load_threads"),
    _set("model-load-retry-count", "int", "load_retries"),
    _set("model-namespacing", "bool", "namespacing"),
    _set("allow-http", "bool", "http"),
    _set("http-address", "str", "http_host"),
    _set("http-port", "int", "http_port"),
    _set("http-max-input-size", "int", "http_body_bytes"),
    _set("http-restricted-api", "str", "http_restricted", many=True),
    _set("http-header-forward-pattern", "str", "http_forward_headers"),
    _set("allow-sagemaker", "bool", "sagemaker"),
    _set("sagemaker-port", "int", "sagemaker_port"),
    _set("sagemaker-safe-port-range", "str", "sagemaker_safe_ports"),
    _set("allow-vertex-ai", "bool", "vertex_ai"),
    _set("vertex-ai-port", "int", "vertex_ai_port"),
    _set("vertex-ai-default-model", "str", "vertex_ai_model"),
    _set("allow-client-shm", "bool", "client_shm"),
    _set("allow-grpc", "bool", "grpc"),
    _set("grpc-address", "str", "grpc_host"),
    _set("grpc-port", "int", "grpc_port"),
    _set("reuse-http-port", "bool", "http_port_shared"),
    _set("reuse-grpc-port", "bool", "grpc_port_shared"),
    _set("grpc-header-forward-pattern", "str", "grpc_forward_headers"),
    _set("grpc-restricted-protocol", "str", "grpc_restricted", many=True),
    _set("grpc-infer-response-compression-level", "choice", "grpc_compression"),
    Flag("grpc-use-ssl", "bool", Fate.SET, "grpc_tls", note="serves the certificate that is given"),
    Flag("grpc-use-ssl-mutual", "bool", Fate.SET, "grpc_mutual_tls", note="asks clients for a certificate as well"),
    _set("grpc-server-cert", "str", "grpc_cert"),
    _set("grpc-server-key", "str", "grpc_key"),
    _set("grpc-root-cert", "str", "grpc_client_ca"),
    _set("grpc-keepalive-time", "milliseconds", "grpc_keepalive_s"),
    _set("grpc-keepalive-timeout", "milliseconds", "grpc_keepalive_timeout_s"),
    _set("grpc-keepalive-permit-without-calls", "bool", "grpc_keepalive_without_calls"),
    _set("grpc-http2-max-pings-without-data", "int", "grpc_pings_without_data"),
    _set("grpc-http2-min-recv-ping-interval-without-data", "milliseconds", "grpc_client_ping_s"),
    _set("grpc-http2-max-ping-strikes", "int", "grpc_ping_strikes"),
    _set("grpc-max-connection-age", "milliseconds", "grpc_connection_age_s"),
    _set("grpc-max-connection-age-grace", "milliseconds", "grpc_connection_grace_s"),
    _set("allow-metrics", "bool", "metrics"),
    _set("metrics-address", "str", "metrics_host"),
    _set("metrics-port", "int", "metrics_port"),
    _set("allow-cpu-metrics", "bool", "cpu_metrics"),
    _set("metrics-interval-ms", "float", "metrics_interval_ms"),
    _set("metrics-config", "str", "metrics_config", many=True),
    _set("pinned-memory-pool-byte-size", "int", "pinned_memory_bytes"),
    _set("log-file", "str", "log_file"),
    _set("trace-config", "str", "trace_config", many=True),
    Flag("trace-file", "str", Fate.SET, "trace_file", note="deprecated: --trace-config triton,file=PATH"),
    Flag("trace-level", "str", Fate.SET, "trace_level", note="deprecated: --trace-config level=LEVEL", many=True),
    Flag("trace-rate", "int", Fate.SET, "trace_rate", note="deprecated: --trace-config rate=N"),
    Flag("trace-count", "int", Fate.SET, "trace_count", note="deprecated: --trace-config count=N"),
    Flag("trace-log-frequency", "int", Fate.SET, "trace_log_frequency", note="deprecated: triton,log-frequency=N"),
    _set("log-verbose", "int", "log_verbose"),
    _set("log-info", "bool", "log_info"),
    _set("log-warning", "bool", "log_warning"),
    _set("log-error", "bool", "log_error"),
    _set("log-format", "str", "log_format"),
    _set("backend-config", "str", "backend_config", many=True),
    _set("cache-config", "str", "cache_config", many=True),
    Flag("response-cache-byte-size", "int", Fate.SET, "cache_bytes", note="sets `cache_config` to local,size=BYTES"),
    _set("rate-limit", "choice", "rate_limit"),
    _set("rate-limit-resource", "str", "rate_limit_resource", many=True),
    Flag("strict-model-config", "bool", Fate.SET, "strict_model_config", note="true turns `auto_complete` off"),
    *_noted("bool", _GPU, "enable-peer-access", "allow-gpu-metrics"),
    *_noted("int", _THREADS, "http-thread-count", "grpc-infer-thread-count"),
    *_noted("int", _THREADS, "sagemaker-thread-count", "vertex-ai-thread-count"),
    *_noted("int", _POOLS, "grpc-infer-allocation-pool-size", "grpc-max-response-pool-size"),
    *_noted("str", _GPU, "cuda-memory-pool-byte-size", "cuda-virtual-address-size", "model-load-gpu-limit"),
    *_noted("float", _GPU, "min-supported-compute-capability"),
    *_noted("int", _POOLS, "buffer-manager-thread-count"),
    *_noted("str", "host policies name NUMA nodes and cores, which the operating system chooses here", "host-policy"),
    _set("backend-directory", "str", "backend_directory"),
    *_noted("str", "repository agents are part of the server here", "repoagent-directory"),
    *_noted("str", "there is no cache library to find", "cache-directory"),
)
BY_NAME = {flag.name: flag for flag in FLAGS}

_LARGEST = 2**63 - 1

# What asking for nothing looks like: refusing these would break start scripts that spell out defaults.
_OFF = {"false", "0", "off", "none", ""}
_BOOL = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}
_READERS: dict[str, Callable[[str], object]] = {
    "none": lambda _: True,
    "bool": lambda raw: _BOOL[raw.lower()],
    "int": int,
    "milliseconds": lambda raw: int(raw) / 1000,
    "float": float,
    "str": str,
    "choice": str.lower,
}


def parse(arguments: Sequence[str], *, whole: bool = True) -> Parsed:
    """Read a tritonserver command line (`--flag=value` and `--flag value` alike).

    Of one that is not `whole`, what the flags mean together is not looked at.

    Raises:
        FlagError: an unknown flag, a bad value, or a flag whose effect is not available here.
    """
    parsed = Parsed()
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise FlagError(f"Unexpected argument: {word}", "flags begin with --")
        name, equals, value = word[2:].partition("=")
        flag = _flag(name)
        if flag.name == "help":
            return Parsed(help=True)
        if flag.kind != "none" and not equals:
            # As getopt does for Triton: a bool flag may stand alone, others take the next word.
            if flag.kind == "bool" and (not waiting or waiting[0].startswith("--")):
                value = "true"
            elif waiting:
                value = waiting.pop(0)
            else:
                raise FlagError(f"option '--{name}' requires an argument")
        _take(flag, value, parsed)
    return _settle(parsed) if whole else parsed


def _flag(name: str) -> Flag:
    """Find a flag by its name, or by as much of it as no other begins with: getopt_long takes both."""
    flag = BY_NAME.get(name)
    if flag is not None:
        return flag
    begun = [flag for flag in FLAGS if flag.name.startswith(name)]
    if len(begun) > 1:
        possible = " ".join(f"'--{flag.name}'" for flag in begun)
        raise FlagError(f"option '--{name}' is ambiguous; possibilities: {possible}")
    if not begun:
        raise FlagError(f"unrecognized option '--{name}'", _suggestion(name))
    return begun[0]


def _take(flag: Flag, raw: str, parsed: Parsed) -> None:
    value = _value(flag, raw)
    if flag.name == "model-load-gpu-limit":
        _check_gpu_limit(raw)
    if flag.fate is Fate.NOTED:
        parsed.notes.append(f"--{flag.name} changes nothing: {flag.note}")
    elif flag.fate is Fate.REFUSED:
        if raw.lower() not in _OFF:
            message = f"--{flag.name}={raw}: {flag.note} is not available in this version"
            raise FlagError(message, "leave the flag out to do without")
    elif flag.many:
        values = parsed.settings.setdefault(flag.setting, [])
        assert isinstance(values, list)
        values.append(value)
    else:
        parsed.settings[flag.setting] = value


def _value(flag: Flag, raw: str) -> object:
    try:
        value = _READERS[flag.kind](raw)
    except KeyError:
        raise FlagError(f"invalid value for bool option: {raw}", f"--{flag.name} is true or false") from None
    except ValueError:
        kind = {"float": "a number"}.get(flag.kind, "a whole number")
        raise FlagError(f"Invalid option value. Got {raw}", f"--{flag.name} is {kind}") from None
    if flag.kind in ("int", "milliseconds") and not -_LARGEST <= int(raw) <= _LARGEST:
        raise FlagError(f"Provided option value is out of bound. Got {raw}", f"of --{flag.name}")
    return value


def _settle(parsed: Parsed) -> Parsed:
    """Turn the flags that say the same thing in another way into their settings."""
    settings = parsed.settings
    _check(settings)
    _settle_completion(parsed)
    _settle_cache(parsed)
    _settle_traces(parsed)
    _settle_tls(parsed)
    return parsed


def _settle_completion(parsed: Parsed) -> None:
    """Turn the two flags that switch auto-completion off into the setting; either is enough."""
    settings = parsed.settings
    disabled = "auto_complete" in settings  # the flag *disables* it
    if "strict_model_config" in settings:
        parsed.notes.append(
            "Warning: '--strict-model-config' has been deprecated! Please use '--disable-auto-complete-config' instead."
        )
        strict = settings.pop("strict_model_config")
        if disabled and not strict:
            parsed.notes.append(
                "Warning: Overriding deprecated '--strict-model-config' from False to True in favor of "
                "'--disable-auto-complete-config'!"
            )
        disabled = disabled or bool(strict)
    if disabled:
        settings["auto_complete"] = False


def _settle_tls(parsed: Parsed) -> None:
    """Leave the certificates that are used: none without --grpc-use-ssl, the authority only with mutual TLS."""
    settings = parsed.settings
    mutual = settings.pop("grpc_mutual_tls", None)
    # As in Triton, naming the mutual kind at all switches TLS on.
    encrypted = settings.pop("grpc_tls", False) or mutual is not None
    unused = {"grpc_client_ca": "grpc-root-cert"} if not mutual else {}
    if not encrypted:
        unused |= {"grpc_cert": "grpc-server-cert", "grpc_key": "grpc-server-key"}
    elif not (settings.get("grpc_cert") and settings.get("grpc_key")):
        raise FlagError("--grpc-use-ssl needs --grpc-server-cert and --grpc-server-key")
    elif mutual and not settings.get("grpc_client_ca"):
        raise FlagError("--grpc-use-ssl-mutual needs --grpc-root-cert, the authority of clients' certificates")
    for setting, flag in unused.items():
        if settings.pop(setting, ""):
            wanted = "--grpc-use-ssl-mutual=true" if encrypted or setting == "grpc_client_ca" else "--grpc-use-ssl=true"
            parsed.notes.append(f"--{flag} changes nothing: it takes {wanted}")


_OLD_TRACE_FLAGS = {
    "trace_file": ("triton,file=", "<filepath>"),
    "trace_level": ("level=", "<OFF|TIMESTAMPS|TENSORS>"),
    "trace_rate": ("rate=", "<rate value>"),
    "trace_count": ("count=", "<count value>"),
    "trace_log_frequency": ("triton,log-frequency=", "<log frequency value>"),
}


def _settle_traces(parsed: Parsed) -> None:
    """Turn the old flags of tracing into --trace-config, which wins where both are given."""
    old = []
    for setting, (prefix, value_name) in _OLD_TRACE_FLAGS.items():
        if setting not in parsed.settings:
            continue
        value = parsed.settings.pop(setting)
        parsed.notes.append(
            f"Warning: '--{setting.replace('_', '-')}' has been deprecated and will be removed in future releases. "
            f"Please use '--trace-config {prefix}{value_name} instead."
        )
        old += [f"{prefix}{one}" for one in (value if isinstance(value, list) else [value])]
    if old:
        given = parsed.settings.get("trace_config", [])
        assert isinstance(given, list)
        parsed.settings["trace_config"] = old + given


def _settle_cache(parsed: Parsed) -> None:
    """Turn the old flag for a cache in this process into the new one; nobody may give both."""
    if "cache_bytes" not in parsed.settings:
        return
    size = parsed.settings.pop("cache_bytes")
    if "cache_config" in parsed.settings:
        raise FlagError(
            "Error: Incompatible flags --response-cache-byte-size and --cache-config both provided. "
            "Please provide one or the other."
        )
    parsed.notes.append(
        "Warning: '--response-cache-byte-size' has been deprecated! This will default to the 'local' cache "
        "implementation with the provided byte size for its config. Please use '--cache-config' instead. The "
        f"equivalent --cache-config CLI args would be: '--cache-config=local,size={size}'"
    )
    if size:
        parsed.settings["cache_config"] = [f"local,size={size}"]


def _check_gpu_limit(raw: str) -> None:
    """Refuse a limit on a GPU's memory that none can have, though there is no GPU to hold to it."""
    device, colon, fraction = raw.partition(":")
    try:
        number, share = int(device), float(fraction)
    except ValueError:
        message = f"Invalid option value. Got {raw if colon else device}"
        raise FlagError(message, "--model-load-gpu-limit is <device>:<fraction>") from None
    if number < 0:
        raise FlagError(f"expects device ID >= 0, got {number}", "of --model-load-gpu-limit")
    if not 0 <= share <= 1:
        message = f"expects limit fraction to be in range [0.0, 1.0], got {fraction}"
        raise FlagError(message, "of --model-load-gpu-limit")


def _check(settings: Mapping[str, object]) -> None:
    """Refuse what tritonserver refuses before it starts."""
    mode = settings.get("control_mode", "none")
    if mode not in ("none", "poll", "explicit"):
        raise FlagError("invalid argument for --model-control-mode", "one of none, poll, explicit")
    if settings.get("rate_limit", "off") not in ("off", "execution_count"):
        raise FlagError("invalid argument for --rate-limit\n  hint: one of off, execution_count")
    if settings.get("load_model") and mode != "explicit":
        raise FlagError("Error: Use of '--load-model' requires setting '--model-control-mode=explicit' as well.")
    if settings.get("config_name") == "":
        raise FlagError("Error: empty argument for --model-config-name")
    pairs = settings.get("backend_config", ())
    assert isinstance(pairs, list | tuple)
    for pair in pairs:
        head, equals, value = str(pair).partition("=")
        if not (equals and value) or head.startswith(",") or head.endswith(","):
            raise FlagError(f"--backend-config option format is '<backend name>,<setting>=<value>'. Got {pair}")
    size = settings.get("http_body_bytes", 1)
    if isinstance(size, int) and size <= 0:
        raise FlagError("Error: --http-max-input-size must be greater than 0.")


def _suggestion(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  (only a mistake pays for it)

    close = get_close_matches(name.lower(), BY_NAME, n=1)
    return f"did you mean --{close[0]}?" if close else "see tritonserver --help"
