"""The labels that every metric of a model has."""

from tritium.core.model import Model


def model_labels(model: Model, **more: str) -> dict[str, str]:
    """Return a model's labels, and more, by name: `model`, `version`, and `_NAME` of each of its metric_tags.

    Where repositories are namespaces, `namespace` is the model's.
    """
    labels = {f"_{name}": value for name, value in model.config.proto.metric_tags.items()}
    if model.namespace:
        labels["namespace"] = model.namespace
    return dict(sorted({"model": model.name, "version": model.version, **labels, **more}.items()))
