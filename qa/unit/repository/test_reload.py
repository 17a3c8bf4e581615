"""Replacing, failing, draining, overriding and polling: what happens to models while they serve."""

import asyncio

import pytest

from tritium.core.catalog import LoadParameters
from tritium.core.errors import Internal, InvalidArgument, NotFound
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.repository.settings import ControlMode

NONE, EXPLICIT, POLL = ControlMode.NONE, ControlMode.EXPLICIT, ControlMode.POLL
READY, UNLOADED = ("READY", ""), ("UNAVAILABLE", "unloaded")
NOTHING = LoadParameters()


def ask(registry, name):
    """Submit a request and return the future of its response."""
    reply = SingleReply(asyncio.get_running_loop())
    registry.submit(InferRequest(name, inputs=[Tensor("x", "FP32", (1,), b"\0\0\0\0")]), reply)
    return reply.future


async def test_load_again_does_nothing_until_files_change(house):
    """A model is reloaded when its files have changed, and not otherwise."""
    house.write("a")
    registry = house.registry(EXPLICIT)
    await registry.start()
    await registry.load("a", NOTHING)
    await registry.load("a", NOTHING)
    assert len(house.loader.loaded) == 1
    house.write("a", content="second")
    await registry.load("a", NOTHING)
    assert [m.content for m in house.loader.loaded] == ["one", "second"]
    assert registry.model("a").content == "second"


async def test_replacing_loses_no_request(house):
    """While the new model loads the old one serves; requests it has taken are answered after the swap."""
    house.write("a")
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    old = registry.model("a")
    house.loader.gate.clear()
    before = ask(registry, "a")
    house.write("a", content="second")
    house.loader.hold.clear()
    house.loader.begun.clear()
    load = asyncio.ensure_future(registry.load("a", NOTHING))
    await asyncio.wait_for(house.loader.begun.wait(), 60)
    assert registry.model("a") is old, "the old one serves while the new one loads"
    assert registry.ready
    house.loader.hold.set()
    await load
    assert registry.model("a") is not old
    assert not old.closed, "it still has a request"
    house.loader.gate.set()
    assert (await asyncio.wait_for(before, 60)).model_version == "1"


async def test_what_is_told_of_a_reload(house):
    """LOADING and READY, and that the version it replaces has ended; one that is kept is told to be READY."""
    house.write("a", versions=("1", "2"))
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    house.events.clear()
    house.write("a", versions=("2", "3"), content="second")
    await registry.load("a", NOTHING)
    house.write("a", "version_policy { specific { versions: 3 } }", versions=(), content="third")
    await registry.load("a", NOTHING)
    house.write("a", "version_policy { specific { versions: [3, 4] } }", versions=(), content="third")
    await registry.load("a", NOTHING)
    await registry.close()
    told = [(event.version, str(event.state), event.kept, event.replaced) for event in house.events]
    assert told == [
        ("3", "LOADING", False, False), ("2", "UNLOADING", False, False), ("3", "READY", False, False),
        ("2", "UNAVAILABLE", False, False),
        ("3", "LOADING", False, False), ("3", "READY", False, False), ("3", "UNAVAILABLE", False, True),
        ("3", "READY", True, False),
        ("3", "UNLOADING", False, False), ("3", "UNAVAILABLE", False, False),
    ]  # fmt: skip


async def test_a_member_is_closed_after_the_ensembles_that_began_with_it(house):
    """A request half way through an ensemble finishes, though its second member is replaced meanwhile."""
    house.write("a")
    house.write("b")
    house.write_ensemble("all", "a", "b")
    registry = house.registry(EXPLICIT, load_models=("all",))
    await registry.start()
    house.loader.gate.clear()
    answer = ask(registry, "all")
    house.write("b", content="second")
    await registry.load("b", NOTHING)
    unload = asyncio.ensure_future(registry.unload("b"))
    await asyncio.sleep(0)
    house.loader.gate.set()
    assert (await asyncio.wait_for(answer, 60)).model_name == "all"
    await unload


async def test_failing_reload_keeps_the_old_version(house, index_of):
    """A reload that fails is reported, and changes nothing."""
    house.write("a")
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    for content, text in (("broken", ""), ("two", "nonsense: 1")):
        house.write("a", text, content=content)
        with pytest.raises((InvalidArgument, Internal)):
            await registry.load("a", NOTHING)
        assert registry.model("a").content == "one"
        assert index_of(registry) == {"a": {"1": READY}}


async def test_one_failing_version_fails_the_load(house, index_of):
    """Of several versions all are served or none, as in Triton; the sound ones are closed again."""
    folder = house.write("a", "version_policy { all { } }", versions=("1", "2"))
    (folder / "2" / "model.fake").write_text("broken")
    registry = house.registry()
    await registry.start()
    assert index_of(registry) == {"a": {"1": UNLOADED, "2": ("UNAVAILABLE", "Invalid argument: the model is broken")}}
    await registry.close()
    assert [model.closed for model in house.loader.loaded] == [True]


async def test_unload_drains(house, index_of):
    """An unloaded model refuses new requests at once, answers those it has, and is then closed."""
    house.write("a")
    registry = house.registry(EXPLICIT, load_models=("a",), unload_wait_s=0.01)
    await registry.start()
    house.loader.gate.clear()
    answer = ask(registry, "a")
    await registry.unload("a")
    assert index_of(registry) == {"a": {"1": ("UNLOADING", "")}}
    with pytest.raises(NotFound, match="has no available versions"):
        registry.model("a")
    house.loader.gate.set()
    assert (await asyncio.wait_for(answer, 60)).model_name == "a"
    await registry.close()
    assert house.loader.loaded[0].closed
    assert index_of(registry) == {"a": {"1": UNLOADED}}


async def test_loads_run_side_by_side_up_to_the_limit(house):
    """Eight models are loaded four at a time."""
    for number in range(8):
        house.write(f"m{number}")
    registry = house.registry(load_threads=4)
    house.loader.hold.clear()
    start = asyncio.ensure_future(registry.start())
    await asyncio.wait_for(house.loader.four.wait(), 60)
    house.loader.hold.set()
    await start
    assert house.loader.most_at_once == 4


async def test_operations_on_one_model_follow_each_other(house):
    """Ten clients that load one model at once get it loaded once."""
    house.write("a")
    registry = house.registry(EXPLICIT)
    await registry.start()
    await asyncio.gather(*(registry.load("a", NOTHING) for _ in range(10)))
    assert len(house.loader.loaded) == 1


async def test_load_goes_on_when_its_client_leaves(house, index_of):
    """A cancelled load request does not leave a model half loaded."""
    house.write("a")
    registry = house.registry(EXPLICIT)
    await registry.start()
    house.loader.hold.clear()
    load = asyncio.ensure_future(registry.load("a", NOTHING))
    await asyncio.wait_for(house.loader.begun.wait(), 60)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert index_of(registry) == {"a": {"1": ("LOADING", "")}}
    house.loader.hold.set()
    await registry.load("a", NOTHING)
    assert index_of(registry) == {"a": {"1": READY}}
    assert len(house.loader.loaded) == 1


async def test_failing_load_whose_client_left_is_no_noise(house):
    """Nobody is told of the failure of a load that nobody waits for; the index has it."""
    house.write("a", content="broken")
    registry = house.registry(EXPLICIT)
    await registry.start()
    house.loader.hold.clear()
    load = asyncio.ensure_future(registry.load("a", NOTHING))
    await asyncio.wait_for(house.loader.begun.wait(), 60)
    load.cancel()
    house.loader.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await load
    with pytest.raises(InvalidArgument):
        await registry.load("a", NOTHING)


async def test_close_ends_loads_and_closes_everything(house):
    """Closing waits for no load, and leaves no model open."""
    house.write("a")
    house.write("b")
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    house.loader.hold.clear()
    house.loader.begun.clear()
    load = asyncio.ensure_future(registry.load("b", NOTHING))
    await asyncio.wait_for(house.loader.begun.wait(), 60)
    await asyncio.wait_for(registry.close(), 60)
    with pytest.raises(asyncio.CancelledError):
        await load
    assert [model.closed for model in house.loader.loaded] == [True]
    assert registry.models() == []


async def test_configuration_of_a_load_request(house):
    """A configuration in the request stands for the file until a file changes, as in Triton."""
    house.write("a")
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    config = (
        '{"backend": "fake", "max_batch_size": 8, "input": [{"name": "q", "data_type": "TYPE_INT8", "dims": ["3"]}]}'
    )
    await registry.load("a", LoadParameters(config=config))
    loaded = registry.model("a").config
    assert (loaded.max_batch_size, list(loaded.inputs)) == (8, ["q"])
    await registry.load("a", NOTHING)
    assert registry.model("a").config.max_batch_size == 8
    house.write("a", content="second")
    await registry.load("a", NOTHING)
    assert registry.model("a").config.max_batch_size == 0


@pytest.mark.parametrize(
    "config", ["{bad", '{"backend": "fake", "name": "b"}', '{"nope": 1}', '{"max_batch_size": -1}']
)
async def test_bad_configuration_of_a_load_request(house, config):
    """A configuration that cannot be used is refused, and the model goes on as it was."""
    house.write("a")
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    with pytest.raises(Internal, match="failed to load 'a', failed to poll from model repository") as caught:
        await registry.load("a", LoadParameters(config=config))
    assert caught.value.hint
    assert registry.model("a").content == "one"


async def test_files_of_a_load_request(house, tmp_path):
    """A model can be loaded from the request alone; its folder is gone when it is unloaded."""
    registry = house.registry(EXPLICIT)
    await registry.start()
    files = {"1/model.fake": b"sent"}
    await registry.load("new", LoadParameters('{"backend": "fake", "name": "new"}', files))
    model = registry.model("new")
    assert model.content == "sent"
    folder = registry._overlays["new"].folder
    assert folder.exists()
    await registry.unload("new")
    assert not folder.exists()
    with pytest.raises(Internal, match="failed to load 'other', failed to poll from model repository"):
        await registry.load("other", LoadParameters(files=files))


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("../../etc/x", InvalidArgument),
        ("", InvalidArgument),
        ("1/a\0b", InvalidArgument),
        ("1/" + "x" * 300, Internal),
        ("1", Internal),
    ],
)
async def test_a_file_of_a_request_has_to_be_one_of_a_model(house, file, kind):
    """A path that leads out of the folder is the client's mistake; one that cannot be written is Triton's 500."""
    registry = house.registry(EXPLICIT)
    await registry.start()
    with pytest.raises(kind, match="failed to load 'new', failed to poll from model repository") as caught:
        await registry.load("new", LoadParameters("{}", {"1/model.fake": b"", file: b""}))
    assert caught.value.hint


async def test_polling(house, index_of):
    """A poll loads what is new, reloads what has changed, unloads what is gone, and leaves the rest alone."""
    house.write("same")
    house.write("gone")
    house.write("changed")
    registry = house.registry(POLL, poll_s=3600.0)
    await registry.start()
    house.write("changed", content="second")
    house.write("new")
    for path in sorted((house.path / "gone").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (house.path / "gone").rmdir()
    await registry.poll()
    assert index_of(registry) == {"changed": {"1": READY}, "new": {"1": READY}, "same": {"1": READY}}
    assert sorted(m.content for m in house.loader.loaded) == ["one", "one", "one", "one", "second"]
    await registry.poll()
    assert len(house.loader.loaded) == 5


async def test_polling_goes_on_by_itself(house):
    """Poll mode looks again and again, also after a look that failed."""
    house.write("a")
    registry = house.registry(POLL, poll_s=0.01)
    await registry.start()
    looks = []

    def survey():
        looks.append(1)
        if len(looks) == 1:
            raise OSError("the disk is away")
        return type(registry).survey(registry)

    registry.survey = survey
    house.loader.begun.clear()
    house.write("b")
    await asyncio.wait_for(house.loader.begun.wait(), 60)
    assert len(looks) > 1


async def test_labels(house):
    """Labels are read from the model's file; an ensemble's output has those of the member that makes it."""
    folder = house.write("a", "output { name: 'y' data_type: TYPE_FP32 dims: [ 1 ] label_filename: 'l.txt' }\n"
                              "input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] }")  # fmt: skip
    (folder / "l.txt").write_text("cat\ndog\n")
    house.write_ensemble("all", "a")
    registry = house.registry()
    await registry.start()
    assert registry.labels(registry.model("a"), "y") == ["cat", "dog"]
    assert registry.labels(registry.model("all"), "y") == ["cat", "dog"]
    assert registry.labels(registry.model("a"), "z") == ()


async def test_events_tell_the_story(house):
    """Every change of state is told, with backend, instances and reason."""
    house.write("a", "instance_group { count: 2 }")
    registry = house.registry(EXPLICIT)
    await registry.start()
    await registry.load("a", NOTHING)
    await registry.unload("a")
    told = [(e.model, e.version, e.backend, str(e.state), e.instances, e.reason) for e in house.events]
    assert told == [
        ("a", "1", "fake", "LOADING", "", ""),
        ("a", "1", "fake", "READY", "2 x CPU", ""),
        ("a", "1", "fake", "UNLOADING", "", ""),
        ("a", "1", "fake", "UNAVAILABLE", "", "unloaded"),
    ]


async def test_a_new_version_leaves_the_others_alone(house, index_of):
    """What is added to a model is loaded; versions that would be what they are go on as they are."""
    policy = "version_policy { all { } }"
    house.write("a", policy, versions=("1", "2"))
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    first, second = registry.model("a", "1"), registry.model("a", "2")
    house.write("a", policy, versions=("3",))
    await registry.load("a", NOTHING)
    assert (registry.model("a", "1"), registry.model("a", "2")) == (first, second)
    assert len(house.loader.loaded) == 3
    house.write("a", policy, versions=("2",), content="second")
    await registry.load("a", NOTHING)
    assert registry.model("a", "1") is first
    assert registry.model("a", "2").content == "second"
    assert index_of(registry) == {"a": {"1": READY, "2": READY, "3": READY}}


async def test_an_empty_version_is_a_change(house, index_of):
    """A folder without files is a version as well: some backends need none."""
    folder = house.write("a")
    registry = house.registry(POLL, poll_s=3600)
    await registry.start()
    (folder / "2").mkdir()
    await registry.poll()
    assert "2" in index_of(registry)["a"]


async def test_another_version_policy_loads_and_unloads_what_it_says(house, index_of):
    """A version that is chosen no more is unloaded, one that is chosen now is loaded, one chosen still goes on."""
    house.write("a", "version_policy { specific { versions: [1, 2] } }", versions=("1", "2", "3"))
    registry = house.registry(EXPLICIT, load_models=("a",))
    await registry.start()
    second = registry.model("a", "2")
    house.write("a", "version_policy { specific { versions: [2, 3] } }", versions=())
    await registry.load("a", NOTHING)
    await registry.poll()
    assert registry.model("a", "2") is second
    assert list(second.config.proto.version_policy.specific.versions) == [2, 3]
    assert index_of(registry) == {"a": {"1": UNLOADED, "2": READY, "3": READY}}


@pytest.mark.parametrize("changed", ["labels.txt", "1/model.fake", "config.pbtxt"])
async def test_every_file_of_a_model_counts(house, changed):
    """Labels, data beside the versions and a configuration that says something else all reload the version."""
    folder = house.write("a")
    registry = house.registry(POLL, poll_s=3600)
    await registry.start()
    old = registry.model("a")
    await registry.poll()
    assert registry.model("a") is old
    text = (folder / "config.pbtxt").read_text() + "parameters { key: 'k' value { string_value: 'v' } }"
    (folder / changed).write_text(text if changed == "config.pbtxt" else "other")
    await registry.poll()
    assert registry.model("a") is not old


async def test_a_load_that_fails_is_tried_again(house):
    """--model-load-retry-count is how often more; the first success ends it."""
    folder = house.write("a", content="broken")
    tries = []

    async def load(source):
        tries.append(source.version)
        if len(tries) == 3:
            (folder / "1" / "model.fake").write_text("sound")
        return await type(house.loader).load(house.loader, source)

    house.loader.load = load
    registry = house.registry(EXPLICIT, load_retries=1)
    await registry.start()
    with pytest.raises(InvalidArgument, match="the model is broken"):
        await registry.load("a", NOTHING)
    assert len(tries) == 2
    await registry.load("a", NOTHING)
    assert len(tries) == 3
