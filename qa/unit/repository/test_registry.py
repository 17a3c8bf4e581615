"""What is loaded when: at start, on request, members with their ensembles; and what is said when it cannot be."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tritium.core.catalog import LoadParameters
from tritium.core.errors import Internal, InvalidArgument, NotFound, StillLoading, Unavailable
from tritium.core.model import State
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


async def test_start_loads_everything(house, index_of):
    """Without explicit control every model of the repository is loaded, members before their ensemble."""
    house.write_ensemble("all", "a", "b")
    house.write("a")
    house.write("b", versions=("1", "2"))
    registry = house.registry()
    assert (registry.ready, registry.starting) == (False, True)
    await registry.start()
    assert not registry.starting
    assert registry.all_loaded
    assert registry.ready
    assert index_of(registry) == {"a": {"1": READY}, "all": {"1": READY}, "b": {"2": READY}}
    assert [m.name for m in registry.models()] == ["a", "all", "b"]
    assert registry.model("b").version == "2"
    assert (await asyncio.wait_for(ask(registry, "all"), 60)).outputs[0].name == "y"
    ready = [event.model for event in house.events if event.state is State.READY]
    assert ready.index("all") == 2


async def test_versions_follow_the_policy(house):
    """The latest version is served unless the policy says all, or which."""
    house.write("newest", versions=("1", "2", "10"))
    house.write("all", "version_policy { all { } }", versions=("1", "10", "2"))
    house.write("two", "version_policy { latest { num_versions: 2 } }", versions=("1", "2", "10"))
    house.write("some", "version_policy { specific { versions: [ 1, 3 ] } }", versions=("1", "2", "3"))
    registry = house.registry()
    await registry.start()
    chosen = {name: registry.versions(name) for name in ("newest", "all", "two", "some")}
    assert chosen == {"newest": ["10"], "all": ["1", "2", "10"], "two": ["2", "10"], "some": ["1", "3"]}
    assert registry.model("all", "2").version == "2"


async def test_failures_are_in_the_index(house, index_of):
    """A model that cannot be loaded is listed with its reason, the others serve, and the server is not ready."""
    house.write("good")
    house.write("broken", content="broken")
    house.write("bug", content="bug")
    house.write("unreadable", "nonsense: 1")
    house.write("unknown", backend="nobody")
    house.write("empty", versions=())
    registry = house.registry()
    await registry.start()
    assert not registry.all_loaded
    assert not registry.ready
    assert index_of(registry) == {
        "good": {"1": READY},
        "broken": {"1": ("UNAVAILABLE", "Invalid argument: the model is broken")},
        "bug": {"1": ("UNAVAILABLE", "Internal: ZeroDivisionError: division by zero")},
        "unreadable": {},
        "unknown": {
            "1": (
                "UNAVAILABLE",
                (
                    "Invalid argument: unable to find backend library for backend 'nobody', try specifying runtime on "
                    "the model configuration."
                ),
            )
        },
    }
    assert index_of(registry, ready_only=True) == {"good": {"1": READY}}
    with pytest.raises(NotFound, match="Request for unknown model: 'broken' has no available versions"):
        registry.model("broken")
    with pytest.raises(Unavailable, match="Request for unknown model: 'broken' version 1 is not at ready state"):
        registry.model("broken", "1")
    with pytest.raises(NotFound, match="Request for unknown model: 'unreadable' is not found"):
        registry.model("unreadable")
    with pytest.raises(NotFound, match="Request for unknown model: 'good' version 7 is not found"):
        registry.model("good", "7")


async def test_a_misspelt_name_is_told_the_one_that_was_meant(house):
    """Triton's words stay as they are; the hint beside them names a loaded model, or the versions there are."""
    house.write("scale")
    house.write("broken", content="broken")
    registry = house.registry()
    await registry.start()
    hints = {}
    for name, version in [("scael", ""), ("brokn", ""), ("x" * 100_000, ""), ("scale", "3")]:
        with pytest.raises(NotFound, match=r"^Request for unknown model: .* is not found$") as caught:
            registry.model(name, version)
        hints[name[:9], version] = caught.value.hint
    assert hints == {
        ("scael", ""): "did you mean scale?",
        ("brokn", ""): "",
        ("xxxxxxxxx", ""): "",
        ("scale", "3"): "its versions are 1",
    }


async def test_what_the_backend_completes_is_checked_and_normalized(house, index_of):
    """Tensors and batching that come from the model are held against the same rules, and get the same defaults."""

    async def complete(config, folder, version):
        config.proto.max_batch_size = 8
        config.proto.dynamic_batching.SetInParent()
        config.proto.input.add(name="x", data_type=11, dims=[0 if config.name == "bad" else 4])
        return config

    house.loader.complete = complete
    house.write("good", "")
    house.write("bad", "")
    registry = house.registry()
    await registry.start()
    config = registry.model("good").config
    assert (config.max_batch_size, config.inputs["x"].dims) == (8, (4,))
    assert list(config.proto.dynamic_batching.preferred_batch_size) == [8]
    assert index_of(registry)["bad"]["1"][1] == (
        "Invalid argument: model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size "
        "dimension for bad"
    )


async def test_without_auto_completion_the_file_must_say_everything(house, index_of):
    """The backend is not asked, and a model without config.pbtxt is not loaded."""
    house.write("whole")
    (house.write("bare") / "config.pbtxt").unlink()
    registry = house.registry(auto_complete=False)
    await registry.start()
    assert index_of(registry) == {"bare": {}, "whole": {"1": READY}}


async def test_another_configuration_by_name(house):
    """With a configuration name, configs/NAME.pbtxt is read where a model has it, config.pbtxt where it has not."""
    folder = house.write("a")
    house.write("b")
    (folder / "configs").mkdir()
    (folder / "configs" / "big.pbtxt").write_text((folder / "config.pbtxt").read_text() + "max_batch_size: 64")
    registry = house.registry(config_name="big")
    await registry.start()
    assert [registry.model(name).config.max_batch_size for name in ("a", "b")] == [64, 0]


async def test_readiness_need_not_be_strict(house):
    """Without strict readiness the server is ready whatever becomes of its models."""
    house.write("broken", content="broken")
    registry = house.registry(strict_readiness=False)
    await registry.start()
    assert registry.ready


async def test_a_sick_model_makes_the_server_unready(house, index_of):
    """Readiness and index tell of instances that died, and of their return."""
    house.write("a")
    registry = house.registry()
    await registry.start()
    house.loader.loaded[0].healthy = False
    assert not registry.ready
    assert index_of(registry)["a"]["1"][0] == "UNAVAILABLE"
    house.loader.loaded[0].healthy = True
    assert registry.ready


async def test_same_name_in_two_repositories_serves_neither(house, tmp_path, index_of):
    """A model that is in two repositories is UNAVAILABLE in both, and said to be so."""
    house.write("twice")
    house.write("once")
    (tmp_path / "other" / "twice" / "1").mkdir(parents=True)
    registry = house.registry(repositories=(house.path, tmp_path / "other"))
    await registry.start()
    assert index_of(registry) == {
        "once": {"1": READY},
        "twice": {"": ("UNAVAILABLE", "model appears in two or more repositories")},
    }
    assert not registry.all_loaded


async def test_load_and_unload_are_refused_without_explicit_control(house):
    """In the other modes the repository decides, in Triton's words."""
    house.write("a")
    for mode in (NONE, POLL):
        registry = house.registry(mode)
        for operation in (registry.load("a", NOTHING), registry.unload("a")):
            with pytest.raises(Unavailable, match="explicit model load / unload is not allowed if polling is enabled"):
                await operation


async def test_explicit_control(house, index_of):
    """Nothing is loaded but what is named at start or asked for; unloading is remembered."""
    house.write("a")
    house.write("b")
    registry = house.registry(EXPLICIT, load_models=("b",))
    await registry.start()
    assert index_of(registry) == {"a": {}, "b": {"1": READY}}
    await registry.load("a", NOTHING)
    await registry.unload("b")
    assert index_of(registry) == {"a": {"1": READY}, "b": {"1": UNLOADED}}
    assert registry.ready, "an unloaded model is no trouble"
    await registry.unload("b")
    await registry.unload("nobody")


async def test_star_loads_all_in_explicit_mode(house, index_of):
    """--load-model=* is every model of the repository."""
    house.write("a")
    house.write("b")
    registry = house.registry(EXPLICIT, load_models=("*",))
    await registry.start()
    assert index_of(registry) == {"a": {"1": READY}, "b": {"1": READY}}


async def test_naming_a_model_that_is_not_there_is_a_failure_to_start(house):
    """A start with --load-model of an unknown model did not load everything."""
    house.write("a")
    registry = house.registry(EXPLICIT, load_models=("nobody",))
    await registry.start()
    assert not registry.all_loaded


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nobody", "model not found in any model repository"), ("unreadable", 'unknown field "nonsense"')],
)
async def test_a_load_of_what_cannot_be_read_is_logged(house, name, reason):
    """Triton's answer to the client has no reason, so the log has it."""
    house.write("unreadable", "nonsense: 1")
    registry = house.registry(EXPLICIT)
    await registry.start()
    with capture_logs() as events, pytest.raises(Internal):
        await registry.load(name, NOTHING)
    assert [event["event"] for event in events] == [f"Poll failed for model directory '{name}': {reason}"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nobody", Internal, "failed to load 'nobody', failed to poll from model repository"),
        ("", Internal, "failed to load '', failed to poll from model repository"),
        ("unreadable", Internal, "failed to load 'unreadable', failed to poll from model repository"),
        ("../a", InvalidArgument, "invalid model name '../a', model name must not contain path traversal characters"),
        ("..", InvalidArgument, "invalid model name '..', model name must not contain path traversal characters"),
        ("empty", InvalidArgument,
         ("load failed for model 'empty': at least one version must be available under the version policy of model "
         "'empty'\n")),
        ("broken", InvalidArgument,
         "load failed for model 'broken': version 1 is at UNAVAILABLE state: Invalid argument: the model is broken;\n"),
        ("lonely", InvalidArgument,
         ("load failed for model 'lonely': ensemble lonely contains models that are not available or ambiguous: "
         "nobody\n")),
        ("sad", InvalidArgument,
         ("load failed for model 'sad': ensemble 'sad' depends on 'broken' which has no loaded version. Model 'broken' "
         "loading failed with error: version 1 is at UNAVAILABLE state: Invalid argument: the model is broken;\n")),
    ],
)  # fmt: skip
async def test_load_that_cannot_be(house, name, error, message):
    """A load that fails says why, in Triton's words."""
    house.write("broken", content="broken")
    house.write("unreadable", "nonsense: 1")
    house.write("empty", versions=())
    house.write_ensemble("lonely", "nobody")
    house.write_ensemble("sad", "broken")
    registry = house.registry(EXPLICIT)
    await registry.start()
    with pytest.raises(error) as caught:
        await registry.load(name, NOTHING)
    assert caught.value.message == message


async def test_load_of_an_ensemble_loads_its_members(house, index_of):
    """Members are loaded with the ensemble; those only it used are unloaded with it when asked."""
    house.write("a")
    house.write("b")
    house.write_ensemble("inner", "b")
    house.write_ensemble("outer", "a", "inner")
    registry = house.registry(EXPLICIT)
    await registry.start()
    await registry.load("a", NOTHING)
    await registry.load("outer", NOTHING)
    assert index_of(registry) == {name: {"1": READY} for name in ("a", "b", "inner", "outer")}
    await registry.unload("outer")
    assert index_of(registry)["inner"] == {"1": READY}
    await registry.load("outer", NOTHING)
    await registry.unload("outer", dependents=True)
    assert index_of(registry) == {
        "a": {"1": READY}, "b": {"1": UNLOADED}, "inner": {"1": UNLOADED}, "outer": {"1": UNLOADED},
    }  # fmt: skip


async def test_member_that_goes_takes_its_ensemble_and_brings_it_back(house, index_of):
    """An ensemble is not served without its members, and is again when they return."""
    house.write("a")
    house.write_ensemble("all", "a")
    registry = house.registry(EXPLICIT, load_models=("all",))
    await registry.start()
    await registry.unload("a")
    assert index_of(registry) == {"a": {"1": UNLOADED}, "all": {"1": UNLOADED}}
    await registry.load("a", NOTHING)
    assert index_of(registry) == {"a": {"1": READY}, "all": {"1": READY}}


async def test_member_that_no_longer_fits_takes_its_ensemble_down(house, index_of):
    """When a member is replaced by one with other tensors, the ensemble is not served any more."""
    house.write("a")
    house.write_ensemble("all", "a")
    registry = house.registry(EXPLICIT, load_models=("all",))
    await registry.start()
    house.write("a", "input { name: 'x' data_type: TYPE_INT8 dims: [ 1 ] }", content="two")
    await registry.load("a", NOTHING)
    assert index_of(registry) == {"a": {"1": READY}, "all": {"1": UNLOADED}}


async def test_ensembles_in_a_ring_are_refused_at_once(house, index_of):
    """Ensembles that contain each other do not wait for each other for ever."""
    house.write_ensemble("a", "b")
    house.write_ensemble("b", "a")
    registry = house.registry()
    await asyncio.wait_for(registry.start(), 60)
    assert index_of(registry) == {"a": {}, "b": {}}
    reasons = {e.model: e.reason for e in house.events}
    assert reasons["a"] == "circular dependency between ensembles: a -> ... -> b -> a"


async def test_a_model_that_is_being_loaded_is_told_from_one_that_is_not_there(house):
    """Both answer Triton's 404; who speaks another protocol can tell them apart."""
    house.write("a")
    registry = house.registry()
    house.loader.hold.clear()
    starting = asyncio.ensure_future(registry.start())
    await asyncio.wait_for(house.loader.begun.wait(), 60)
    with pytest.raises(StillLoading, match="Request for unknown model: 'a' has no available versions"):
        registry.model("a")
    with pytest.raises(NotFound) as caught:
        registry.model("b")
    assert not isinstance(caught.value, StillLoading)
    house.loader.hold.set()
    await asyncio.wait_for(starting, 60)
    assert registry.model("a").ready
