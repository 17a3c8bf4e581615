"""What holds of every plan: other bytes stay, twice changes nothing, rollback restores, files read as before.

Over made-up files, and over the deployments that the environment variable TRITIUM_CORPUS names.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given, settings
from hypothesis import strategies as st

from tritium.compat.config.parse import parse_text
from tritium.migration.applying.in_place import apply_in_place, roll_back
from tritium.migration.applying.journal import FOLDER
from tritium.migration.planning.planner import ALL, NoDeployment, Wishes, make_plan
from tritium.migration.planning.preview import preview
from tritium.migration.text.mask import cover

EVERYTHING = Wishes(unsafe=frozenset({ALL}))
FLAGS = (
    "--model-repository=/models",
    "--model-store=/models",
    "--strict-model-config=false",
    "--strict-model-config=true",
    "--log-verbose=1",
    "--http-port=8080",
    "--model-control-mode=poll",
)
TAGS = ("23.03-py3", "24.08-vllm-python-py3", "22.12-pyt-python-py3", "25.01-py3-min", "${TAG}", "yy.mm-py3")
COMMENTS = (
    "",
    "# kept",
    "# image: nvcr.io/nvidia/tritonserver:20.01-py3",
    "# caf\udce9",
    "# tritonserver --model-store=/x",
)


def snapshot(root: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a deployment."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in files if FOLDER not in path.parts}


def check(root: Path) -> None:
    """Plan, apply, plan again, take back; raise where anything else than the plan's edits changed."""
    before = snapshot(root)
    try:
        plan = make_plan(root, EVERYTHING)
    except NoDeployment:
        return
    preview(plan, root)
    assert snapshot(root) == before
    apply_in_place(plan, root)
    after = snapshot(root)
    assert {path for path in {*before, *after} if after.get(path) != before.get(path)} == set(plan.results)
    for path, pieces in plan.pieces.items():
        old, at = before[path].decode(errors="surrogateescape"), 0
        rest = after[path].decode(errors="surrogateescape")
        for piece in sorted(pieces, key=lambda one: (one.start, one.end)):
            kept = old[at : piece.start] + piece.new
            assert rest.startswith(kept), path
            rest, at = rest[len(kept) :], piece.end
        assert rest == old[at:], path
        if path.endswith((".yaml", ".yml")):
            assert reads(old) in (None, reads(after[path].decode(errors="surrogateescape"))), path
        if path.endswith(".pbtxt"):
            told = after[path].decode(errors="surrogateescape")
            assert parse_text(old, path).problems or not parse_text(told, path).problems, path
    again = make_plan(root, EVERYTHING)
    assert (again.changes, again.withheld) == ([], [])
    assert apply_in_place(plan, root) == []
    if plan.results:
        roll_back(root)
    assert snapshot(root) == before
    assert not (root / FOLDER).exists()


def reads(text: str) -> int | None:
    """Return how many documents a YAML file has; None for one that no parser takes."""
    try:
        return len(list(yaml.compose_all(cover(text))))
    except (yaml.YAMLError, ValueError):
        return None


flags = st.lists(st.sampled_from(FLAGS), min_size=1, max_size=4, unique_by=lambda flag: flag.partition("=")[0])


@st.composite
def compose(draw: st.DrawFn) -> str:
    """Draw a compose file, in one of the ways people write a command."""
    words = ["tritonserver", *draw(flags)]
    mark, comment = draw(st.sampled_from(['"', "'"])), draw(st.sampled_from(COMMENTS))
    command = draw(
        st.sampled_from(
            [
                " " + " ".join(words),
                f" {mark}{' '.join(words)}{mark}",
                " [" + ", ".join(f"{mark}{word}{mark}" for word in words) + "]",
                "\n" + "\n".join(f"      - {mark}{word}{mark}  {comment}".rstrip() for word in words),
                "\n      [\n" + "".join(f"        {mark}{word}{mark},\n" for word in words) + "      ]",
                " >\n      " + "\n      ".join(words),
            ]
        )
    )
    image = f"nvcr.io/nvidia/tritonserver:{draw(st.sampled_from(TAGS))}"
    quote = draw(st.sampled_from(["", '"', "'"]))
    return f"services:\n  triton:  {comment}\n    image: {quote}{image}{quote}  {comment}\n    command:{command}\n"


@st.composite
def dockerfile(draw: st.DrawFn) -> str:
    """Draw a Dockerfile with its command as a list or as a line of shell over several lines."""
    words = ["tritonserver", *draw(flags)]
    listed = ", ".join(f'"{word}"' for word in words)
    command = draw(st.sampled_from([f"[{listed}]", " ".join(words), " \\\n    ".join(words)]))
    comment = draw(st.sampled_from(COMMENTS))
    return (
        f"{comment}\nFROM nvcr.io/nvidia/tritonserver:{draw(st.sampled_from(TAGS))} AS base\nCMD {command}\n{comment}"
    )


@settings(max_examples=40, deadline=None)
@given(compose(), dockerfile(), st.booleans(), st.booleans(), st.booleans())
def test_files_people_may_write(
    services: str,
    docker: str,
    crlf: bool,  # noqa: FBT001  (hypothesis draws it)
    bom: bool,  # noqa: FBT001  (likewise)
    unended: bool,  # noqa: FBT001  (likewise)
) -> None:
    """Every way of quoting, breaking and commenting survives, with line ends, byte order mark and odd bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("compose.yaml", services), ("Dockerfile", docker)):
            ended = text.rstrip("\n") if unended else text
            written = ("\ufeff" if bom else "") + (ended.replace("\n", "\r\n") if crlf else ended)
            Path(folder, name).write_bytes(written.encode(errors="surrogateescape"))
        check(Path(folder))


def test_real_deployments(tmp_path: Path) -> None:
    """The same of every deployment of the corpus."""
    corpus = Path(os.environ.get("TRITIUM_CORPUS", "."), "deployments")
    if not corpus.is_dir():
        pytest.skip("TRITIUM_CORPUS names no folder with a `deployments` folder of Triton deployments")
    for folder in sorted(one for one in corpus.iterdir() if one.is_dir()):
        shutil.copytree(folder, tmp_path / folder.name, symlinks=True)
        check(tmp_path / folder.name)
