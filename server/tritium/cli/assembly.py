"""A server put together: loaders -> registry -> front-ends -> listeners. The one place that knows every room."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tritium.backends.contract import BackendHost
from tritium.backends.metrics import CustomMetrics
from tritium.cli import cloud_ports, grpc_port, http_port, openai_port
from tritium.cli.engine_metrics import engine_metrics
from tritium.cli.facilities import facilities_of
from tritium.cli.front import FoundModels, check_role
from tritium.cli.observability import metrics_config, server_metrics, tracing
from tritium.cli.options import ServeOptions, SettingsError
from tritium.cluster.fleet import Fleet
from tritium.cluster.local import start_fleet
from tritium.cluster.samples import DISCOVERY_HELP, FLEET_HELP
from tritium.cluster.spec import parse_fleet
from tritium.core.cache.store import Store
from tritium.core.errors import InvalidArgument
from tritium.core.facilities import Facilities
from tritium.core.log_settings import LogSettingsBook, LogSettingsControl
from tritium.core.model import State
from tritium.core.regions import NoRegions
from tritium.core.serving import ServerState
from tritium.core.trace_settings import TraceSettingsBook
from tritium.llm.found import FoundLoader
from tritium.llm.loader import LanguageLoader
from tritium.llm.model import LanguageModel
from tritium.llm.models import CatalogModels
from tritium.llm.reading.configured import REASONING_PARSER, TOOL_PARSER
from tritium.llm.reading.table import reasoning_parser_name, tool_parser_name
from tritium.llm.settings import LanguageSettings
from tritium.llm.text_models.book import TextModels
from tritium.llm.tokenizer import TOKENIZER_HELP
from tritium.llm.trtllm_files import read_trtllm_files
from tritium.memory.registry import RegionRegistry
from tritium.observe.custom import custom_metrics
from tritium.observe.distributions import MetricsConfig
from tritium.observe.metrics import metrics_handler, page_of, plain_metrics
from tritium.openai.keys.readings import KEY_HELP, key_readings
from tritium.repository.devices import installed_gpus
from tritium.repository.events import ModelEvent
from tritium.repository.loader import Loader, Offer
from tritium.repository.on_demand import ON_DEMAND_HELP, OnDemandRegistry, Room
from tritium.repository.places import Repository, find_places, repository_of
from tritium.repository.registry import Registry
from tritium.repository.settings import ControlMode, RegistrySettings
from tritium.repository.tensor_loader import tensor_loaders
from tritium.repository.written_backends import written_backends
from tritium.wire.listener import Listener, listen_http

Reading = tuple[str, Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a server is made of, before it listens; `metrics` are those that models define for themselves."""

    registry: Registry
    metrics: CustomMetrics
    metrics_config: MetricsConfig
    tracing: TraceSettingsBook
    facilities: Facilities
    text_models: TextModels
    found: FoundModels | None = None
    """What discovery finds, where the options say to look; to be started beside the registry."""


def assemble(options: ServeOptions, on_model: Callable[[ModelEvent], None]) -> Assembly:
    """Compose the registry with a loader for every installed backend, language models included.

    Raises:
        SettingsError: there is nothing to serve; `engine` names none that is installed, `fleet` no model;
            `backend_config` or `fleet` cannot be read.
    """
    check_role(options)
    if not options.repositories and options.control_mode != ControlMode.EXPLICIT and not options.discovery:
        raise SettingsError(
            "no model repository to serve\n  hint: tritium serve FOLDER, a folder of model folders; "
            "--control-mode explicit starts without one"
        )
    metrics = CustomMetrics()

    async def start(fleet: str, *, name: str, engine: str, folder: Path, arguments: Mapping[str, Any]) -> Fleet:
        return await start_fleet(parse_fleet(fleet), name=name, engine=engine, folder=folder, arguments=arguments)

    language = LanguageSettings(
        engine=_engine(options.engine),
        fleets=_fleets(options),
        parsers=_parsers(options),
        chat_templates=_chat_templates(options),
        trust_request_chat_template=options.trust_request_chat_template,
        cloud_cache=Path(options.cloud_cache) if options.cloud_cache else None,
        timeout_s=options.openai_timeout_s,
    )

    facilities = facilities_of(options)

    def host() -> BackendHost:
        return BackendHost(submit=registry.submit, catalog=registry, metrics=metrics)

    settings = _backend_settings(options.backend_config)
    local = {
        "vllm": LanguageLoader(language, start),
        "tensorrtllm": LanguageLoader(language, start, read_trtllm_files),
    }
    found = FoundModels(options, _name(options)) if options.discovery else None
    loaders: dict[str, Loader] = {**tensor_loaders(host, settings, facilities), **local}
    if found is not None:
        elsewhere = LanguageLoader(replace(language, engine="auto"), found.join, weights=False)
        loaders |= {name: FoundLoader(loader, elsewhere, found.home) for name, loader in local.items()}
    if options.backend_directory:
        loaders |= written_backends(Path(options.backend_directory), host, settings, facilities, taken=loaders)
    config = metrics_config(options)

    def tell(event: ModelEvent) -> None:
        if event.state is State.READY and not event.kept:
            model = registry.model(event.model, event.version)
            for one in (model, *model.aliases):
                one.statistics.latencies = config.latencies(one)
        on_model(event)

    text_models = TextModels()
    registry = _registry(options, loaders, tell, facilities.store, text_models.read)
    return Assembly(registry, metrics, config, tracing(options), facilities, text_models, found)


async def listen(
    options: ServeOptions, assembly: Assembly, log_settings: LogSettingsControl | None = None
) -> dict[str, Listener]:
    """Open every port that the options ask for; by protocol.

    Raises:
        ListenError, TlsError: a port or a certificate cannot be used; no port is left open.
    """
    registry = assembly.registry
    state = ServerState(
        registry,
        name=options.server_id,
        live=lambda: registry.live,
        labels=registry.labels,
        log_settings=log_settings or LogSettingsBook(),
        trace_settings=assembly.tracing,
        regions=RegionRegistry() if options.client_shm else NoRegions(),
    )
    sources = [
        *server_metrics(options, assembly.metrics_config, registry.models, assembly.facilities.store),
        custom_metrics(assembly.metrics),
        plain_metrics(_language_readings(registry), {**FLEET_HELP, **TOKENIZER_HELP}),
        engine_metrics(registry.models),
    ]
    keys = openai_port.key_ring(options)
    sources.append(plain_metrics(lambda: key_readings(keys), KEY_HELP))
    if isinstance(registry, OnDemandRegistry):
        sources.append(plain_metrics(registry.metrics, ON_DEMAND_HELP))
    if assembly.found is not None:
        sources.append(plain_metrics(assembly.found.metrics, DISCOVERY_HELP))
    report = page_of(sources)
    listeners: dict[str, Listener] = {}
    try:
        if options.http:
            listeners["http"] = await http_port.open_port(options, state, report)
        if options.sagemaker:
            listeners["sagemaker"] = await cloud_ports.open_sagemaker(options, state, registry)
        if options.vertex_ai:
            listeners["vertex_ai"] = await cloud_ports.open_vertex_ai(options, state, report)
        if options.grpc:
            listeners["grpc"] = await grpc_port.open_port(options, state)
        if options.metrics:
            host = options.metrics_host or options.host
            page = metrics_handler(sources)
            listeners["metrics"] = await listen_http(page, host=host, port=options.metrics_port)
        if options.openai:
            models = CatalogModels(registry, assembly.text_models)
            listeners["openai"] = await openai_port.open_port(options, models, report, keys)
    except BaseException:
        for listener in listeners.values():
            await listener.close(0)
        raise
    return listeners


async def find_models(options: ServeOptions, assembly: Assembly) -> None:
    """Begin to serve what discovery finds, and wait a while for what is there already."""
    if assembly.found is not None:
        repositories = _repositories(options)
        assembly.found.start(assembly.registry, lambda name: name in find_places(repositories, known=True).models)
        await assembly.found.settle()


def _name(options: ServeOptions) -> str:
    """Return what workers call this front in their logs."""
    return f"{options.server_id}@{socket.gethostname()}-{os.getpid()}"


def _language_readings(registry: Registry) -> Callable[[], Iterator[Reading]]:
    def readings() -> Iterator[Reading]:
        for model in registry.models():
            if isinstance(model, LanguageModel):
                yield from model.fleet.metrics()
                yield from model.tokenizer.metrics(model.name)

    return readings


def _registry(
    options: ServeOptions,
    loaders: Mapping[str, Loader],
    tell: Callable[[ModelEvent], None],
    store: Store | None,
    offer: Offer,
) -> Registry:
    """Make the registry; one that loads on demand where that is asked for."""
    settings = _registry_settings(options)
    if not options.on_demand_models and not options.on_demand_bytes:
        return Registry(settings, loaders, tell, store, offer)
    if settings.control is ControlMode.POLL or settings.namespacing:
        raise SettingsError("models on demand go neither with --control-mode poll nor with --namespacing")
    room = Room(options.on_demand_models, options.on_demand_bytes)
    return OnDemandRegistry(replace(settings, control=ControlMode.EXPLICIT), loaders, tell, store, offer, room=room)


def _registry_settings(options: ServeOptions) -> RegistrySettings:
    return RegistrySettings(
        repositories=_repositories(options),
        control=ControlMode(options.control_mode),
        load_models=options.load_model,
        auto_complete=options.auto_complete,
        config_name=options.config_name,
        strict_readiness=options.strict_readiness,
        load_threads=options.load_threads,
        load_retries=options.load_retries,
        namespacing=options.namespacing,
        poll_s=options.poll_s,
        gpus=installed_gpus(),
        cpu_for_gpu=options.cpu_for_gpu,
    )


def _repositories(options: ServeOptions) -> tuple[Repository, ...]:
    cache = Path(options.cloud_cache) if options.cloud_cache else None
    return tuple(repository_of(address, cache) for address in options.repositories)


def _backend_settings(pairs: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Read NAME,key=value by backend; key=value, without a name, is for every backend."""
    settings: dict[str, dict[str, str]] = {}
    for pair in pairs:
        head, equals, value = pair.partition("=")
        backend, comma, key = head.rpartition(",")
        if not equals or not key or not value or (comma and not backend):
            raise SettingsError(f"backend_config takes NAME,key=value or key=value, not '{pair}'")
        settings.setdefault(backend, {})[key] = value
    return settings


def _engine(name: str) -> str:
    """Return the engine if a package offers it, or if it is a class of its own, written "package.module:Class"."""
    installed = sorted(point.name for point in entry_points(group="tritium.engines"))
    if name not in ("auto", *installed) and ":" not in name:
        raise SettingsError(f"engine is one of auto, {', '.join(installed)}, not '{name}'")
    return name


def _chat_templates(options: ServeOptions) -> dict[str, str]:
    """Return the files of chat templates by model."""
    templates: dict[str, str] = {}
    for pair in options.chat_template:
        model, _, file = pair.partition("=")
        if not file:
            raise SettingsError(f"chat_template takes MODEL=FILE, not '{pair}'")
        if not Path(file).is_file():
            raise SettingsError(f"chat_template: there is no file {file}")
        templates[model] = file
    return templates


def _parsers(options: ServeOptions) -> dict[str, dict[str, str]]:
    """Return the parsers of tool calls and reasoning by model; each must be one that there is."""
    parsers: dict[str, dict[str, str]] = {}
    for field, pairs, known in (
        (TOOL_PARSER, options.tool_parser, tool_parser_name),
        (REASONING_PARSER, options.reasoning_parser, reasoning_parser_name),
    ):
        for pair in pairs:
            model, _, name = pair.partition("=")
            if not name:
                raise SettingsError(f"{field} takes MODEL=NAME, not '{pair}'")
            try:
                known(name)
            except InvalidArgument as error:
                raise SettingsError(f"{error.message}\n  hint: {error.hint}") from None
            parsers.setdefault(model, {})[field] = name
    return parsers


def _fleets(options: ServeOptions) -> dict[str, str]:
    """Return the fleet settings by model; each must be one of the repositories, unless it may come later."""
    fleets: dict[str, str] = {}
    for pair in options.fleet:
        model, equals, spec = pair.partition("=")
        if not equals or not spec:
            raise SettingsError(f"fleet takes MODEL=workers=N or MODEL=prefill=X,decode=Y, not '{pair}'")
        try:
            parse_fleet(spec)
        except InvalidArgument as error:
            hint = f"\n  hint: {error.hint}" if error.hint else ""
            raise SettingsError(f"{error.message} in --fleet {pair}{hint}") from None
        fleets[model] = spec
    models = find_places(_repositories(options)).models if fleets else {}
    for model in fleets:
        # Without any model, what is wrong with the repositories is what has to be said.
        if options.control_mode == ControlMode.NONE and models and model not in models:
            near = get_close_matches(model, models, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(models)}"
            raise SettingsError(f"fleet names the model '{model}', which is in no repository\n  hint: {hint}")
    return fleets
