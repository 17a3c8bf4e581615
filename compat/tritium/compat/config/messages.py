"""What Triton says of loading, unloading and looking models up; clients and tests compare these texts.

Source: core/src/model_repository_manager/model_repository_manager.cc and model_lifecycle.cc.
"""

from collections.abc import Mapping, Sequence

STATUS_NAMES = {
    1: "Cancelled",
    2: "Unknown",
    3: "Invalid argument",
    5: "Not found",
    6: "Already exists",
    12: "Unsupported",
    13: "Internal",
    14: "Unavailable",
}
"""How a reason in the repository index begins, by gRPC code."""

UNLOADED = "unloaded"
DUPLICATE = "model appears in two or more repositories"
CONTROL_REFUSED = "explicit model load / unload is not allowed if polling is enabled"
REGISTRATION_REFUSED = "repository registration is not allowed if model control mode is not EXPLICIT"
STOPPING = "Server is stopping, scheduler for model has stopped accepting new inference requests"
EMPTY_NAME = "Model name cannot be empty. Please enter a valid name to deploy."


def unknown_model(name: str, version: str = "") -> str:
    """Answer a lookup of a model, or of a version of a known one, that is not there."""
    named = f"'{name}' version {version}" if version else f"'{name}'"
    return f"Request for unknown model: {named} is not found"


def ambiguous(name: str, models: int) -> str:
    """Answer a lookup of a name that models of several namespaces have."""
    return (
        f"There are {models} identifiers of model '{name}' in global map, "
        "model namespace must be provided to resolve ambiguity."
    )


def no_versions(name: str) -> str:
    """Answer a lookup of a known model none of whose versions is ready."""
    return f"Request for unknown model: '{name}' has no available versions"


def not_ready(name: str, version: str) -> str:
    """Answer a lookup of a known version that is not ready."""
    return f"Request for unknown model: '{name}' version {version} is not at ready state"


def poll_failed(name: str) -> str:
    """Answer a load of a model that is not there, or whose configuration cannot be used."""
    return f"failed to load '{name}', failed to poll from model repository"


def poll_failed_for(name: str, reason: str) -> str:
    """Say why a model's folder cannot be used; in the log."""
    return f"Poll failed for model directory '{name}': {reason}"


def with_status(status: str, message: str) -> str:
    """Put the name of a status before a message, as Triton's log has it."""
    return f"{status}: {message}"


def version_not_loaded(name: str, version: str, reason: str) -> str:
    """Say why a version was not loaded, or a model without any; in the log."""
    return f"failed to load '{name}'{f' version {version}' if version else ''}: {reason}"


def load_failed(name: str, reason: str) -> str:
    """Answer a load that got as far as the model."""
    return f"load failed for model '{name}': {reason}\n"


def version_failed(version: str, reason: str) -> str:
    """Say within `load_failed` what became of one version."""
    return f"version {version} is at UNAVAILABLE state: {reason};"


def path_traversal(name: str) -> str:
    """Refuse a model name that leads out of the repository."""
    return f"invalid model name '{name}', model name must not contain path traversal characters"


def no_version(name: str) -> str:
    """Say that the version policy leaves nothing to load."""
    return f"at least one version must be available under the version policy of model '{name}'"


def name_mismatch(folder: str, name: str) -> str:
    """Say that a model is not called like its directory."""
    return f"unexpected directory name '{folder}' for model '{name}', directory name must equal model name"


def unknown_backend(backend: str) -> str:
    """Say that no backend of that name is installed."""
    return f"unable to find backend library for backend '{backend}', try specifying runtime on the model configuration."


def leading_zeros(folder: str) -> str:
    """Say that a folder is no version because of how its number is written."""
    return f"ignore version directory '{folder}' which contains leading zeros in its directory name"


def no_number(folder: str) -> str:
    """Say that a folder is no version because its name is no number."""
    return f"ignore version directory '{folder}' which fails to convert to integral number"


def no_file(path: str) -> str:
    """Say that a file is not there which a configuration names, or is."""
    return f"failed to open text file for read {path}: No such file or directory"


def members_missing(ensemble: str, members: str) -> str:
    """Say that an ensemble names models that are not in the repository."""
    return f"ensemble {ensemble} contains models that are not available or ambiguous: {members}"


def circular(ensemble: str, last: str) -> str:
    """Say that an ensemble contains itself."""
    return f"circular dependency between ensembles: {ensemble} -> ... -> {last} -> {ensemble}"


def member_failed(ensemble: str, member: str, reason: str) -> str:
    """Say that an ensemble cannot load because one of its models did not."""
    return (
        f"ensemble '{ensemble}' depends on '{member}' which has no loaded version. "
        f"Model '{member}' loading failed with error: {reason}"
    )


def member_invalid(ensemble: str, member: str, reason: str) -> str:
    """Say that an ensemble cannot load because one of its models has a configuration that cannot be used."""
    return (
        f"ensemble '{ensemble}' depends on '{member}' which is not valid. Model '{member}' failed with error: {reason}"
    )


def member_version_missing(ensemble: str, member: str, version: int) -> str:
    """Say that an ensemble asks for a version of a model that is not loaded."""
    return f"ensemble '{ensemble}' depends on '{member}' whose required version {version} is not loaded."


def same_port(first: str, second: str, address: str) -> str:
    """Say that two protocols cannot share an address and port."""
    return f"The server cannot listen to {first} requests and {second} requests at the same address and port {address}"


def port_in_use(protocol: str, address: str) -> str:
    """Say which service found its port taken."""
    return f"failed to start {protocol} service: Unavailable - Socket '{address}' already in use "


def unknown_agent(agent: str) -> str:
    """Say that there is no repository agent of that name."""
    return f"unable to find 'libtritonrepoagent_{agent}.so' for repo agent '{agent}', searched: the agents built in"


def warming_up(model: str, instance: str, sample: str, iteration: int) -> str:
    """Say that a warm-up sample runs; in the log, at its most verbose."""
    return f"model '{model}' instance {instance} is running warmup sample '{sample}' for iteration {iteration}"


def most_resources(limits: Mapping[tuple[int, str], int]) -> str:
    """List how many there are of each resource of the rate limiter, by device; in the log, at its most verbose."""
    lines = ["", "Max Resource Map===>"]
    for device in sorted({device for device, _ in limits}):
        lines.append(f"\tDevice: {device if device >= 0 else 'GLOBAL'}")
        named = sorted((name, count) for (of, name), count in limits.items() if of == device)
        lines += [f"\t\tResource: {name}\t Count: {count}" for name, count in named]
    return "\n".join([*lines, ""])


def warmup_failed(sample: str, errors: Sequence[str]) -> str:
    """Say why a warm-up sample failed."""
    return f"failed to run warmup sample '{sample}': {''.join(f'{error}; ' for error in errors)}"


def warmup_too_short(wanted_bytes: int, file: str, given_bytes: int) -> str:
    """Say that the file of a warm-up input holds less than its shape needs."""
    # The missing space is Triton's.
    return f"warmup setting expects {wanted_bytes} bytes, but the data provided from {file}only has {given_bytes} bytes"


def inflight_limited(ensemble: str, limit: int) -> str:
    """Say that only so many requests of each step of an ensemble run at a time."""
    return f"Ensemble model '{ensemble}' configured with max_inflight_requests: {limit}"


def nothing_to_register(folder: str) -> str:
    """Say that a folder to take models from is not there."""
    return f"failed to register '{folder}', repository not found"


def registered_already(folder: str) -> str:
    """Say that models are taken from a folder already."""
    return f"model repository '{folder}' has already been registered"


def renamed_already(name: str) -> str:
    """Say that another folder's model goes by that name."""
    return f"failed to register '{name}', there is a conflicting mapping for '{name}'"


def not_registered(folder: str) -> str:
    """Say that no models are taken from a folder."""
    return f"failed to unregister '{folder}', repository not found"
