"""What a front makes of what it finds: models that come, change and go, without a folder of their own here."""

import ast
from pathlib import Path

import pytest
from qa.unit.cluster.remote_fleet import OpenWorker, until

from tritium.backends.contract import ModelSource
from tritium.cli import front
from tritium.cli.assembly import assemble, find_models
from tritium.cli.options import ServeOptions
from tritium.cluster.discovery.folder import FolderDiscovery
from tritium.cluster.plane.files import FileServer
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_text
from tritium.core.errors import InferenceError
from tritium.llm.card_files import make_card
from tritium.llm.loader import LanguageLoader
from tritium.llm.settings import LanguageSettings
from tritium.repository.events import ignore_event

TINY_CHAT = Path(__file__).parents[3] / "model_repository" / "tiny_chat"


async def nothing(fleet, **rest):
    raise AssertionError("nothing is to be started")


@pytest.fixture
async def place(tmp_path):
    """Make workers and fronts over one folder, ended with the test."""

    class Place:
        def __init__(self):
            self.made = []
            self.discovery = FolderDiscovery(tmp_path / "workers", beat_s=0.5)

        async def worker(self, name, model="tiny", config='backend: "vllm"\n', **arguments):
            """Announce an echo engine with the card of the sample model."""
            worker = OpenWorker(self.discovery, name, model=model)
            parsed = from_proto(parse_text(config, "config.pbtxt").message)
            loader = LanguageLoader(LanguageSettings(engine="echo"), nothing)
            prepared = await loader.prepare(ModelSource(parsed, TINY_CHAT, "1"))

            def card_of(info):
                made = make_card(model, info, prepared, config)
                return made.card, FileServer(made.paths)

            await worker.start(card_of=card_of, **arguments)
            self.made.append(worker.end)
            return worker

        async def front(self, **options):
            given = {"discovery": f"file:{tmp_path}/workers", "card_cache": str(tmp_path / "cards"), **options}
            options = ServeOptions(**given)
            assembly = assemble(options, ignore_event)
            await assembly.registry.start()
            await find_models(options, assembly)

            async def end():
                await assembly.found.close()
                await assembly.registry.close()

            self.made.append(end)
            return assembly

    place = Place()
    yield place
    for end in reversed(place.made):
        await end()
    await place.discovery.close()


def served(assembly):
    return sorted(model.name for model in assembly.registry.models())


def ready(assembly, *, instead_of=None):
    """Tell whether the model is ready, and another one than it was."""
    found = [model for model in assembly.registry.models() if model.name == "tiny"]
    return bool(found) and found[0] is not instead_of and found[0].ready


async def test_what_is_there_is_served_from_the_start(place):
    """A front is ready with the models whose workers are there, their names beside their own included."""
    await place.worker("a", config='backend: "vllm"\nparameters { key: "aliases" value { string_value: "other" } }\n')
    assembly = await place.front(role="front")
    model = assembly.registry.model("tiny")
    assert model.ready
    assert model.fleet.info.engine == "echo"
    assert model.fleet.shape == "1 worker found"
    assert assembly.registry.model("other").target is model
    assert model.tokenizer.vocabulary_size > 0


async def test_what_is_gone_is_unloaded(place, monkeypatch):
    """A model is unloaded a while after its last worker left, and loaded again, as it is then, when one comes."""
    monkeypatch.setattr(front, "FORGET_S", 0.2)
    first = await place.worker("a")
    assembly = await place.front(role="front")
    assert served(assembly) == ["tiny"]
    await first.leave()
    await until(lambda: served(assembly) == [])
    with pytest.raises(InferenceError):
        assembly.registry.model("tiny")
    await place.worker("b", block_tokens=8)
    await until(lambda: ready(assembly))
    assert assembly.registry.model("tiny").fleet.info.block_tokens == 8


async def test_a_model_changes_when_the_last_worker_of_the_old_one_leaves(place):
    """Workers of the new one wait, refused; then the front loads the model from their card."""
    old = await place.worker("old", block_tokens=4)
    assembly = await place.front(role="front")
    await place.worker("new", block_tokens=8)
    before = assembly.registry.model("tiny")
    await until(lambda: ("tritium_workers", {"model": "tiny", "state": "refused"}, 1) in before.fleet.metrics())
    await old.leave()
    await until(lambda: ready(assembly, instead_of=before))
    assert list(assembly.registry.model("tiny").fleet.workers.by_name) == ["new"]


async def test_a_repository_goes_before_what_is_found(place, tmp_path):
    """A server with a model of its own serves that, whatever is announced by its name, and what else it finds."""
    await place.worker("a", model="tiny_chat")
    await place.worker("b", model="tiny")
    assembly = await place.front(repositories=(str(TINY_CHAT.parent),), control_mode="explicit")
    assert served(assembly) == ["tiny"]


async def test_a_model_whose_files_do_not_come_is_tried_again(place, monkeypatch):
    """What cannot be fetched now is fetched later; the front serves everything else meanwhile."""
    monkeypatch.setattr(front, "FIRST_AGAIN_S", 0.05)
    worker = await place.worker("a")
    files = worker.door._files
    worker.door._files = FileServer({})
    monkeypatch.setattr(front, "SETTLE_S", 0.5)
    assembly = await place.front(role="front")
    assert served(assembly) == []
    worker.door._files = files
    await until(lambda: served(assembly) == ["tiny"])


async def test_a_hostile_card_is_refused(place, tmp_path):
    """A card that names files outside its folder is not laid out, and harms no other model."""
    worker = await place.worker("a", model="..")
    assert worker.instance.model == ".."
    await place.worker("b")
    assembly = await place.front(role="front")
    assert served(assembly) == ["tiny"]


async def test_a_hostile_card_that_leaves_takes_nothing_along(place, tmp_path, monkeypatch):
    """What was never laid out is not removed when it is gone: a card's name may be the path of anything."""
    monkeypatch.setattr(front, "FORGET_S", 0.2)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    worker = await place.worker("a", model=str(kept))
    assembly = await place.front(role="front")
    assert list(assembly.found._roll.all_members())
    await worker.leave()
    await until(lambda: not list(assembly.found._roll.all_members()))
    assert (kept / "file").exists()


async def test_a_model_of_a_repository_outlives_a_namesake_that_leaves(place, monkeypatch):
    """A model that the server has by itself stays loaded when a worker that announced its name has gone."""
    monkeypatch.setattr(front, "FORGET_S", 0.2)
    worker = await place.worker("a", model="add_sub")
    assembly = await place.front(
        repositories=(str(TINY_CHAT.parent),), control_mode="explicit", load_model=("add_sub",)
    )
    assert served(assembly) == ["add_sub"]
    await worker.leave()
    await until(lambda: not list(assembly.found._roll.all_members()))
    assert served(assembly) == ["add_sub"]


def test_one_machine_needs_none_of_it() -> None:
    """No module imports what only a cluster needs before it is asked for: the packages are an extra."""
    eager = [
        (path.name, name)
        for path in TINY_CHAT.parents[1].glob("*/tritium/**/*.py")
        for node in ast.parse(path.read_text()).body
        for name in imported(node)
        if name.partition(".")[0] in ("aetcd", "nats")
    ]
    assert eager == []


def imported(node: ast.stmt) -> list[str]:
    """Return what a statement of a module imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
