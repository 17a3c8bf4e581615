"""What `tritonserver --help` says of each flag: by group, its value, its default, and a sentence.

The groups, their order, the shapes of values and the defaults are Triton's; the sentences are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlagHelp:
    """One flag: `value` as the usage line shows it, empty where it takes none; `default` as it is spelt."""

    name: str
    value: str
    default: str
    text: str


_ALL = "0.0.0.0"  # noqa: S104  shown, not bound
_TEXT, _YES, _COUNT, _NUMBER = "<string>", "<boolean>", "<integer>", "<float>"


def _group(*rows: tuple[str, str, str, str]) -> Sequence[FlagHelp]:
    return tuple(FlagHelp(*row) for row in rows)


GROUPS: Mapping[str, Sequence[FlagHelp]] = {
    "": _group(("help", "", "", "Show this.")),
    "Server": _group(
        ("id", _TEXT, "triton", "Name that the server gives of itself in its metadata."),
        ("exit-timeout-secs", _COUNT, "30", "How long a shutdown waits for requests under way."),
    ),
    "Logging": _group(
        ("log-verbose", _COUNT, "0", "Level of verbose messages; 0 is none."),
        ("log-info", _YES, "true", "Log messages of level info."),
        ("log-warning", _YES, "true", "Log warnings."),
        ("log-error", _YES, "true", "Log errors."),
        ("log-format", _TEXT, "default", "How lines begin: default (LMMDD hh:mm:ss.ssssss), ISO8601, or json."),
        ("log-file", _TEXT, "", "File to log to; without it, standard error."),
    ),
    "Model Repository": _group(
        ("model-store", _TEXT, "", "The same as --model-repository."),
        ("model-repository", _TEXT, "", "A repository: a folder, s3://, gs:// or as://. Repeatable."),
        ("exit-on-error", _YES, "true", "End when a model cannot be loaded at start."),
        ("disable-auto-complete-config", "", "", "Take configurations as they are written; complete none from files."),
        ("strict-readiness", _YES, "true", "Be ready only when all models are."),
        (
            "model-control-mode",
            _TEXT,
            "none",
            "none: load all at start; poll: follow changes; explicit: load when asked.",
        ),
        ("repository-poll-secs", _COUNT, "15", "Seconds between two looks at the repositories, in mode poll."),
        (
            "load-model",
            _TEXT,
            "",
            "Model to load at start in mode explicit; * alone is all. Repeatable.",
        ),
        ("model-config-name", _TEXT, "", "Use configs/NAME.pbtxt of a model that has it, instead of config.pbtxt."),
        ("model-load-thread-count", _COUNT, "4", "How many model versions are loaded at the same time."),
        ("model-load-retry-count", _COUNT, "0", "How often a load that failed is tried again."),
        ("model-namespacing", _YES, "false", "Let each repository have names of its own, so that two may share one."),
        ("enable-peer-access", _YES, "true", "Let GPUs read each other's memory."),
    ),
    "HTTP": _group(
        ("allow-http", _YES, "true", "Serve HTTP."),
        ("http-address", _TEXT, _ALL, "Address of HTTP."),
        ("http-port", _COUNT, "8000", "Port of HTTP."),
        ("reuse-http-port", _YES, "false", "Share the port with other servers that do so too."),
        ("http-header-forward-pattern", _TEXT, "", "Headers that match become parameters of the request."),
        ("http-thread-count", _COUNT, "8", "Threads that answer HTTP."),
        ("http-max-input-size", _COUNT, "67108864", "Largest body of a request, in bytes."),
        ("http-restricted-api", "<apis>,<key>=<value>", "", "APIs that need a header of this key and value."),
    ),
    "GRPC": _group(
        ("allow-grpc", _YES, "true", "Serve gRPC."),
        ("grpc-address", _TEXT, _ALL, "Address of gRPC."),
        ("grpc-port", _COUNT, "8001", "Port of gRPC."),
        ("reuse-grpc-port", _YES, "false", "Share the port with other servers that do so too."),
        ("grpc-header-forward-pattern", _TEXT, "", "Metadata that match become parameters of the request."),
        ("grpc-infer-thread-count", _COUNT, "2", "Threads that run inference calls, 2 to 128."),
        ("grpc-infer-allocation-pool-size", _COUNT, "8", "Request and response objects that are kept for reuse."),
        ("grpc-max-response-pool-size", _COUNT, "2147483647", "Most response objects of a stream at a time."),
        ("grpc-use-ssl", _YES, "false", "Serve over TLS."),
        ("grpc-use-ssl-mutual", _YES, "false", "Serve over TLS, and ask clients for a certificate."),
        ("grpc-server-cert", _TEXT, "", "PEM file of the server's certificate."),
        ("grpc-server-key", _TEXT, "", "PEM file of the server's private key."),
        ("grpc-root-cert", _TEXT, "", "PEM file of the authority that clients' certificates come from."),
        ("grpc-infer-response-compression-level", _TEXT, "none", "Compression of responses: none, low, medium, high."),
        ("grpc-keepalive-time", _COUNT, "7200000", "Milliseconds after which a quiet connection is pinged."),
        ("grpc-keepalive-timeout", _COUNT, "20000", "Milliseconds that a ping may stay unanswered."),
        ("grpc-keepalive-permit-without-calls", _YES, "false", "Ping also while no call is under way."),
        ("grpc-http2-max-pings-without-data", _COUNT, "2", "Most pings in a row without data between them; 0: any."),
        (
            "grpc-http2-min-recv-ping-interval-without-data",
            _COUNT,
            "300000",
            "Milliseconds that a client without calls has to leave between pings.",
        ),
        ("grpc-http2-max-ping-strikes", _COUNT, "2", "Pings too many that a client is forgiven; 0: any."),
        ("grpc-max-connection-age", _COUNT, "0", "Milliseconds a connection may live; 0: for ever."),
        ("grpc-max-connection-age-grace", _COUNT, "0", "Milliseconds its calls may go on after that; 0: for ever."),
        (
            "grpc-restricted-protocol",
            "<protocols>,<key>=<value>",
            "",
            "Calls that need metadata of this key and value.",
        ),
    ),
    "Sagemaker": _group(
        ("allow-sagemaker", _YES, "false", "Serve SageMaker's endpoints."),
        ("sagemaker-port", _COUNT, "8080", "Port of SageMaker's endpoints."),
        ("sagemaker-safe-port-range", "<integer>-<integer>", "", "Ports that the other protocols may use."),
        ("sagemaker-thread-count", _COUNT, "8", "Threads that answer SageMaker."),
    ),
    "Vertex": _group(
        ("allow-vertex-ai", _YES, "true where AIP_MODE=PREDICTION", "Serve Vertex AI's endpoints."),
        ("vertex-ai-port", _COUNT, "AIP_HTTP_PORT, or 8080", "Port of Vertex AI's endpoints."),
        ("vertex-ai-thread-count", _COUNT, "8", "Threads that answer Vertex AI."),
        ("vertex-ai-default-model", _TEXT, "", "Model that requests which name none are for."),
    ),
    "Metrics": _group(
        ("allow-metrics", _YES, "true", "Serve Prometheus metrics."),
        ("allow-gpu-metrics", _YES, "true", "Give metrics of GPUs."),
        ("allow-cpu-metrics", _YES, "true", "Give metrics of the CPU and of memory."),
        ("metrics-address", _TEXT, "that of HTTP", "Address of the metrics."),
        ("metrics-port", _COUNT, "8002", "Port of the metrics."),
        ("metrics-interval-ms", _NUMBER, "2000", "Milliseconds between two readings of the machine."),
        (
            "metrics-config",
            "<setting>=<value>",
            "",
            "Which kinds of latencies are measured. Repeatable.",
        ),
    ),
    "Tracing": _group(
        ("trace-config", "<mode>,<setting>=<value>", "", "A setting of traces; without mode, one of all. Repeatable."),
    ),
    "Backend": _group(
        ("backend-directory", _TEXT, "/opt/tritonserver/backends", "Folder in which backends are looked for."),
        ("backend-config", "<backend>,<setting>=<value>", "", "A setting of a backend. Repeatable."),
    ),
    "Repository Agent": _group(
        ("repoagent-directory", _TEXT, "/opt/tritonserver/repoagents", "Folder in which agents are looked for."),
    ),
    "Response Cache": _group(
        (
            "cache-config",
            "<cache>,<setting>=<value>",
            "",
            "A setting of a cache, as in local,size=1048576.",
        ),
        ("cache-directory", _TEXT, "/opt/tritonserver/caches", "Folder in which caches are looked for."),
    ),
    "Rate Limiter": _group(
        ("rate-limit", _TEXT, "off", "off, or execution_count: run by priority, within the resources that are there."),
        ("rate-limit-resource", "<name>:<count>:<device>", "", "How much of a resource there is. Repeatable."),
    ),
    "Memory/Device Management": _group(
        ("pinned-memory-pool-byte-size", _COUNT, "268435456", "Bytes of pinned memory for transfers to GPUs."),
        ("cuda-memory-pool-byte-size", "<device>:<bytes>", "67108864", "Bytes of a GPU's memory for transfers."),
        ("cuda-virtual-address-size", "<device>:<bytes>", "1073741824", "Most bytes of a state that grows on a GPU."),
        ("min-supported-compute-capability", _NUMBER, "6.0", "Least capability of GPUs that are used."),
        ("buffer-manager-thread-count", _COUNT, "0", "Threads that copy tensors."),
        ("host-policy", "<policy>,<setting>=<value>", "", "NUMA node and cores of a policy. Repeatable."),
        ("model-load-gpu-limit", "<device>:<fraction>", "", "Share of a GPU's memory beyond which no model is loaded."),
    ),
    "Shared Memory": _group(
        ("allow-client-shm", _YES, "false", "Let clients register shared memory for their tensors."),
    ),
    "DEPRECATED": _group(
        ("strict-model-config", _YES, "false", "Write --disable-auto-complete-config."),
        ("response-cache-byte-size", _COUNT, "", "Write --cache-config=local,size=BYTES."),
        ("trace-file", _TEXT, "", "Write --trace-config=triton,file=PATH."),
        ("trace-level", _TEXT, "OFF", "Write --trace-config=level=OFF, TIMESTAMPS or TENSORS."),
        ("trace-rate", _COUNT, "1000", "Write --trace-config=rate=N."),
        ("trace-count", _COUNT, "-1", "Write --trace-config=count=N."),
        ("trace-log-frequency", _COUNT, "0", "Write --trace-config=triton,log-frequency=N."),
    ),
}
