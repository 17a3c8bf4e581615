"""Evidence of what is really deployed: a folder may hold several repositories, of which one is served.

compose, pods    ./models:/models          a volume of the server's container names the folder
Dockerfile       COPY models /models       and so does a copy into the image
command          --model-repository=...    whose last folder is called like the repository's
                 --load-model=resnet       and which models of it are loaded

What nothing names, in a folder called `backup`, `old` or `SAVE`, is probably none of it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tritium.migration.deployment import Deployment, Launch
from tritium.migration.found import Found
from tritium.migration.launches.format import Format

_SPARE = re.compile(
    r"^(?:.*[_.-])?(?:backup|bak|old|archived?|save[sd]?|deprecated|unused|copy|tmp|benchmarks?|templates?|tests?)(?:[_.-].*)?$",
    re.IGNORECASE,
)
_VOLUME = re.compile(
    r"""(?:-v\s+|--volume[= ]|^[ \t]*-\s*)["']?(?P<host>[\w./${}()-]*[\w}/.)]):(?P<inside>/[\w./-]+)""", re.MULTILINE
)
_COPY = re.compile(r"^[ \t]*(?:COPY|ADD)\s+(?:--\S+\s+)*(?P<host>[\w./-]+)\s+(?P<inside>/?[\w./-]+)\s*$", re.MULTILINE)
_HERE = re.compile(r"^(?:\$\{?PWD\}?|\$\(pwd\)|\.)(?=/|$)/?")
_SERVES = ("model-repository", "model-store", "model-repo")


@dataclass(frozen=True, slots=True)
class Mention:
    """A place that names a repository: where, and the folder below the root (None: only its name is known)."""

    launch: Launch
    folder: PurePosixPath | None
    name: str
    line: int

    @property
    def place(self) -> str:
        """Return where it stands."""
        return f"{self.launch.source.path}:{self.line}"


def evidence_of(deployment: Deployment) -> dict[Path, str]:
    """Return, by the place of each model, what says that it is deployed or is not; nothing where nothing says."""
    mentions = list(_mentions(deployment))
    loaded = {word.text for _, command in deployment.commands() for word in command.values("load-model")}
    said = {model.place: _said(model, mentions) for model in deployment.models}
    some = any(said.values())
    for model in deployment.models:
        part = next((part for part in model.place.parent.parts[:-1] if _SPARE.match(part)), "")
        if not said[model.place] and part:
            said[model.place] = f"probably not deployed: nothing names it, and it lies in '{part}'"
        elif not said[model.place] and some and _repository(model) is not None:
            said[model.place] = "nothing that starts Triton names its repository, and another's is named"
        elif loaded and "*" not in loaded and model.name not in loaded and not any("$" in name for name in loaded):
            said[model.place] = "not among the models that --load-model names"
    return {place: text for place, text in said.items() if text}


def _said(model: Found, mentions: list[Mention]) -> str:
    home = _repository(model)
    if home is None:
        return ""
    for mention in mentions:
        if mention.folder is not None and (mention.folder == home or mention.folder in home.parents):
            return f"deployed by {mention.place}"
    named = [mention for mention in mentions if mention.folder is None and mention.name and mention.name == home.name]
    return f"deployed by {named[0].place}, which names a folder '{home.name}'" if named else ""


def _repository(model: Found) -> PurePosixPath | None:
    if model.repository is None:
        return None
    home = model.place.parent if model.bare else model.place.parent.parent
    return PurePosixPath(home.as_posix())


def _mentions(deployment: Deployment) -> Iterator[Mention]:
    for launch in deployment.launches:
        if launch.format in (Format.DOCUMENT, Format.NOTEBOOK):
            continue
        source = launch.source
        wanted = {PurePosixPath(w.text) for c in launch.commands for w in c.values(*_SERVES)} or {
            PurePosixPath("/models")
        }
        mounted = False
        pattern = _COPY if launch.format is Format.DOCKERFILE else _VOLUME
        for match in pattern.finditer(source.text):
            inside = PurePosixPath(match["inside"])
            if not any(inside == one or inside in one.parents for one in wanted):
                continue
            folder = _below(match["host"], source.path, wanted, inside)
            mounted = mounted or folder is not None
            yield Mention(launch, folder, "", source.place(match.start("host"))[0])
        for command in launch.commands:
            for word in command.values(*_SERVES):
                relative = not word.text.startswith(("/", "$", "{", "s3:", "gs:", "as:"))
                folder = _below(word.text, source.path, set(), None) if relative else None
                # What a path within the container is called says nothing where a mount says which folder it is.
                name = "" if mounted else PurePosixPath(word.text.rstrip("/")).name
                yield Mention(launch, folder, name, word.line)


def _below(host: str, file: Path, wanted: set[PurePosixPath], inside: PurePosixPath | None) -> PurePosixPath | None:
    """Return the folder below the root that a path of the host means: relative to its file, or to the root."""
    path = _HERE.sub("", host)
    if path.startswith(("/", "$", "~")):
        return None
    deeper = next((one.relative_to(inside) for one in wanted if inside is not None and inside in one.parents), None)
    joined = os.path.normpath(PurePosixPath(file.parent.as_posix(), path, deeper or "."))
    return PurePosixPath(joined) if not joined.startswith("..") else PurePosixPath(os.path.normpath(path))
