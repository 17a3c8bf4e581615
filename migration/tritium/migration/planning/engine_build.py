"""What an engine was built for, as far as the deployment tells: GPUs and context, as arguments of model.json."""

from tritium.migration.deployment import Deployment
from tritium.migration.found import Found
from tritium.migration.text.tree import Mapping, documents


def built_with(deployment: Deployment, engine: Found) -> dict[str, int]:
    """Return what the engine's config.json says, or else the ranks that launchers start, where they agree."""
    for source in deployment.files_of(engine, "config.json"):
        for tree in documents(source):
            if isinstance(tree, Mapping) and tree.has("build_config"):
                said = {
                    "max_model_len": tree.text("build_config", "max_seq_len"),
                    "tensor_parallel_size": tree.text("pretrained_config", "mapping", "tp_size"),
                    "pipeline_parallel_size": tree.text("pretrained_config", "mapping", "pp_size"),
                }
                return {name: int(text) for name, text in said.items() if text.isdecimal() and int(text) > 1}
    started = (command.value("world-size") for _, command in deployment.commands() if command.launches_ranks)
    sizes = {size for size in started if size.isdecimal()}
    size = int(sizes.pop()) if len(sizes) == 1 else 1
    return {"tensor_parallel_size": size} if size > 1 else {}
