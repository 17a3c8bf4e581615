"""What lies below a folder, and what only looks as if it did: paths that lead out of it, by name or through a link."""

from pathlib import Path


def leads_out(path: str) -> bool:
    """Tell whether a path cannot be one below a folder; plans and journals may be damaged, or written to do harm."""
    return path in ("", ".") or "\0" in path or Path(path).is_absolute() or ".." in Path(path).parts


def link_on_the_way(root: Path, path: str) -> Path | None:
    """Return the outermost folder on the way from `root` to a file that is a link: what is behind it lies elsewhere."""
    outer = list(Path(path).parents)[-2::-1]
    return next((one for one in outer if (root / one).is_symlink()), None)
