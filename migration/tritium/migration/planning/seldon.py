"""Seldon: its own description of a server gains a container with Tritium's image; models and their addresses stay.

    Server (version 2)          spec.podSpec.containers names the container that serverConfig begins with, and its image
    ServerConfig (version 2)    the image of the container `triton`
    SeldonDeployment (1)        componentSpecs name the container of a graph's node: its image goes before Seldon's own

The cluster has to be able to pull the image, and Seldon rolls the servers anew, so these changes are unsafe.
"""

from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Hosted, Platform
from tritium.migration.planning.insertion import inserted, replaced
from tritium.migration.planning.plan import Change, Piece
from tritium.migration.text.source import Source
from tritium.migration.text.tree import Mapping, Scalar, Sequence, documents, walk

RULE = "L16"
CONTAINER = "triton"
"""What Seldon's own configuration calls the container of Triton."""


def servers(deployment: Deployment) -> Iterator[Change]:
    """Yield a change for every server and graph that Seldon runs Triton for."""
    image = deployment.target.image
    for host in deployment.hosted:
        tree = _tree(host) if host.platform is Platform.SELDON else None
        if tree is not None and (pieces := _pieces(host.source, tree, host, image)):
            message = f"{host.what} runs {image}"
            line = host.source.place(host.span.start)[0]
            yield Change(RULE, str(host.source.path), line, message, safe=False, pieces=pieces)


def _tree(host: Hosted) -> Mapping | None:
    for tree in documents(host.source):
        if isinstance(tree, Mapping) and tree.span.start <= host.span.start < tree.span.end:
            return tree
    return None


def _pieces(source: Source, tree: Mapping, host: Hosted, image: str) -> list[Piece]:
    kind, spec = tree.text("kind"), tree.get("spec")
    if not isinstance(spec, Mapping):
        return []
    if kind in ("Server", "ServerConfig"):
        found = _container(spec.get("podSpec"), CONTAINER)
        if found is not None:
            return _image(source, found, image)
        if kind == "Server" and not spec.has("podSpec"):
            lines = ("podSpec:", "  containers:", f"  - name: {CONTAINER}", f"    image: {image}")
            return inserted(source, spec, *lines)
        return []
    return [piece for node, predictor in _nodes(spec, host) for piece in _graph(source, node, predictor, image)]


def _nodes(spec: Mapping, host: Hosted) -> Iterator[tuple[str, Mapping]]:
    """Yield the name of the graph's node that this is about, and its predictor."""
    predictors = spec.get("predictors")
    for predictor in predictors.items if isinstance(predictors, Sequence) else ():
        for _, node in walk(predictor):
            implementation = node.get("implementation") if isinstance(node, Mapping) else None
            if isinstance(implementation, Scalar) and implementation.span == host.span:
                assert isinstance(node, Mapping)
                assert isinstance(predictor, Mapping)
                yield node.text("name"), predictor


def _graph(source: Source, name: str, predictor: Mapping, image: str) -> list[Piece]:
    components = predictor.get("componentSpecs")
    if components is None and name:
        lines = ("componentSpecs:", "- spec:", "    containers:", f"    - name: {name}", f"      image: {image}")
        return inserted(source, predictor, *lines)
    for component in components.items if isinstance(components, Sequence) else ():
        spec = component.get("spec") if isinstance(component, Mapping) else None
        if (found := _container(spec, name)) is not None:
            return _image(source, found, image)
    return []


def _container(spec: object, name: str) -> Mapping | None:
    containers = spec.get("containers") if isinstance(spec, Mapping) else None
    for item in containers.items if isinstance(containers, Sequence) else ():
        if isinstance(item, Mapping) and item.text("name") == name:
            return item
    return None


def _image(source: Source, container: Mapping, image: str) -> list[Piece]:
    """Name the image of a container; nothing where that is Tritium's already."""
    now = container.get("image")
    if isinstance(now, Scalar):
        known = now.text == image or "tritium" in now.text or "{{" in now.text
        return [] if known else [replaced(source.path, now.span, image)]
    return inserted(source, container, f"image: {image}")
