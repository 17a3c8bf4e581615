"""The settings of `tritium worker`, loaded as those of `tritium serve` are; what both have means the same."""

from dataclasses import dataclass

from tritium.cli.options import LOG_FORMATS, setting

WORKER_ROLES = ("aggregated", "prefill", "decode")
PATHS = ("auto", "rdma", "tcp", "shm")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Everything `tritium worker` can be told. Durations are in seconds."""

    model: str = setting(
        "", "What to serve: a folder of a repository's model, a model's own folder, or a hub name.", group="model"
    )
    name: str = setting("", "Name of the model (none: that of its folder).", group="model")
    engine: str = setting("auto", "What runs it: vllm, embedded, mocker, ... (auto: vllm if installed).", group="model")
    engine_argument: tuple[str, ...] = setting(
        (), "An argument of the engine that goes before model.json's, as max_model_len=4096.", group="model"
    )
    tool_parser: str = setting("", "How the model writes tool calls (none: its chat template shows it).", group="model")
    reasoning_parser: str = setting(
        "", "How the model marks what it thinks (none: its chat template shows it).", group="model"
    )
    chat_template: str = setting("", "File of a chat template in place of the model's own.", group="model")
    cloud_cache: str = setting("", "Folder for copies of models in object stores.", group="model")

    role: str = setting(
        "aggregated", "What this worker does: all, only prompts, or only tokens.", group="worker", choices=WORKER_ROLES
    )
    mixed: bool = setting(
        False,
        "Load an aggregated worker so that it can take another role while it runs; those with roles always can, where "
        "their engine does.",
        group="worker",
    )
    worker_name: str = setting("", "Name of the worker in its namespace (none: host and process).", group="worker")
    listen: str = setting(
        "127.0.0.1:0", "Where fronts reach it: HOST:PORT (port 0 takes a free one), or unix:/PATH.", group="worker"
    )
    advertise: str = setting("", "Host that fronts are told, where it is not that of --listen.", group="worker")
    share: str = setting(
        "0/1", "Which worker of how many on this machine, as 0/2: they share its cores and GPUs.", group="worker"
    )
    transfer: str = setting(
        "auto", "By which path KV moves to and from it; a role other than aggregated.", group="worker", choices=PATHS
    )
    drain_s: float = setting(60.0, "How long streams may take to finish after SIGTERM.", group="worker")
    refused_s: float = setting(
        0.0,
        "How long fronts may refuse it while none uses it, before it ends with status 1; 0: for ever.",
        group="worker",
    )

    namespace: str = setting("default", "Namespace that it announces itself in.", group="cluster")
    discovery: str = setting(
        "", "Where it announces itself: etcd://HOST:2379 or file:/FOLDER; fronts look there.", group="cluster"
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
    cluster_cert: str = setting("", "Certificate (PEM) of this worker.", group="cluster")
    cluster_cert_key: str = setting("", "Private key (PEM) of that certificate.", group="cluster")
    cluster_open: bool = setting(
        False, "Listen where other machines can reach it though neither secret nor TLS protects it.", group="cluster"
    )
    discovery_password: str = setting(
        "", "File with the password of the user in etcd://USER@HOST:2379.", group="cluster"
    )
    discovery_ca: str = setting("", "Certificate authority (PEM) of etcd; where it is set it is TLS.", group="cluster")
    discovery_cert: str = setting("", "Certificate (PEM) that is shown to etcd.", group="cluster")
    discovery_cert_key: str = setting("", "Private key (PEM) of that certificate.", group="cluster")

    log_format: str = setting("console", "How log lines look.", group="log", choices=LOG_FORMATS)
    log_level: str = setting(
        "info", "The least severe level that is logged.", group="log", choices=("debug", "info", "warning", "error")
    )
