"""Containers in YAML: of compose, a pod, a chart's template, a serving runtime, a task definition of ECS."""

from collections.abc import Iterator
from dataclasses import dataclass

from tritium.migration.text.tree import Mapping, Node, Scalar, Sequence, walk

_SIGNS = ("name", "command", "args", "container_name", "ports", "build", "env", "environment", "volumes", "deploy")
_GPU_KEYS = ("nvidia.com/gpu", "gpus", "gpu")


@dataclass(frozen=True, slots=True)
class Container:
    """One container: what runs in it, and what it is given."""

    name: str
    image: Scalar | None
    node: Mapping
    keys: tuple[str, ...]

    @property
    def words(self) -> tuple[Scalar, ...]:
        """Return the words of its command and arguments."""
        found: list[Scalar] = []
        for key in ("entrypoint", "command", "args"):
            node = _value(self.node, key)
            if isinstance(node, Scalar):
                found.append(node)
            elif isinstance(node, Sequence):
                found += [item for item in node.items if isinstance(item, Scalar)]
        return tuple(found)

    @property
    def environment(self) -> tuple[tuple[str, Scalar], ...]:
        """Return the names of its environment, each with where its entry stands; values are nobody's business."""
        found: list[tuple[str, Scalar]] = []
        for key in ("env", "environment"):
            node = _value(self.node, key)
            if isinstance(node, Mapping):
                found += [(name.text, name) for name, _ in node.entries]
            elif isinstance(node, Sequence):
                found += [named for item in node.items if (named := _variable(item)) is not None]
        return tuple(found)

    @property
    def gpus(self) -> int | None:
        """Return how many GPUs it asks for; None where it does not say."""
        for keys, node in walk(self.node):
            if keys and keys[-1] in _GPU_KEYS and isinstance(node, Scalar) and node.text.strip().isdigit():
                return int(node.text)
        return None

    @property
    def ports(self) -> tuple[str, ...]:
        """Return the container's ports as they are written."""
        node = _value(self.node, "ports")
        if not isinstance(node, Sequence):
            return ()
        return tuple(
            item.text if isinstance(item, Scalar) else item.text("containerPort") or item.text("target")
            for item in node.items
            if isinstance(item, Scalar | Mapping)
        )


def containers(tree: Node) -> Iterator[Container]:
    """Yield the containers of a document: mappings that name an image and look like something that runs."""
    for keys, node in walk(tree):
        if not isinstance(node, Mapping):
            continue
        image = _value(node, "image")
        runs = isinstance(image, Scalar) and any(_value(node, sign) is not None for sign in _SIGNS)
        if runs or (len(keys) == 2 and keys[0] == "services" and node.has("build")):
            named = _value(node, "name") or node.get("container_name")
            name = named.text if isinstance(named, Scalar) and named.text else keys[-1] if keys else ""
            yield Container(name, image if isinstance(image, Scalar) else None, node, keys)


def _value(node: Mapping, key: str) -> Node | None:
    """Return what a key leads to; CloudFormation writes it with a capital."""
    found = node.get(key)
    return node.get(key.capitalize()) if found is None else found


def _variable(item: Node) -> tuple[str, Scalar] | None:
    if isinstance(item, Scalar):
        return item.text.partition("=")[0], item
    if isinstance(item, Mapping) and isinstance(name := _value(item, "name"), Scalar):
        return name.text, name
    return None
