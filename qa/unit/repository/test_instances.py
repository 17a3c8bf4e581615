"""A load after which a model has other instances: added and taken away while it serves, by Triton's rule."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.contract import BackendHost
from tritium.core.catalog import LoadParameters
from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.facilities import Facilities
from tritium.core.instance import ExecutionTimes
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest, InferResponse
from tritium.core.scheduler.limiter import EVERY_DEVICE, RateLimiter
from tritium.core.tensor import Tensor
from tritium.repository.registry import Registry
from tritium.repository.settings import ControlMode, RegistrySettings
from tritium.repository.tensor_loader import TensorLoader

ADD = "input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] }\noutput { name: 'y' data_type: TYPE_FP32 dims: [ 1 ] }\n"


class Instance:
    """Answers at once."""

    depth, healthy, closed = 1, True, False

    def __init__(self, place: Any, host: Any) -> None:
        self.name, self.place, self.host = place.name, place, host

    async def execute(self, jobs: Any) -> ExecutionTimes:
        for job in jobs:
            output = Tensor("y", "FP32", (1,), bytes(job.request.inputs[0].data))
            job.reply.send(InferResponse("", "", outputs=[output]), final=True)
        return ExecutionTimes(1, 1, 1)

    async def close(self) -> None:
        self.closed = True


class Backend:
    """Opens instances until `refuses`, and keeps them."""

    name, refuses = "fake", False

    def __init__(self) -> None:
        self.opened: list[Instance] = []

    async def complete(self, config: Any, folder: Any, version: str) -> Any:
        return config

    async def open(self, source: Any, place: Any, host: Any) -> Instance:
        if self.refuses:
            raise ModelFailed("no memory for another one")
        self.opened.append(Instance(place, host))
        return self.opened[-1]

    @property
    def open_names(self) -> list[str]:
        return [instance.name for instance in self.opened if not instance.closed]


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
async def registry(tmp_path: Path, backend: Backend) -> AsyncIterator[Registry]:
    """A registry over real models of a backend that keeps what it opened."""
    limiter = RateLimiter({(EVERY_DEVICE, "R"): 2})
    loader = TensorLoader(lambda: backend, BackendHost, Facilities(limiter=limiter))
    registry = Registry(RegistrySettings((tmp_path,), ControlMode.EXPLICIT), {"fake": loader})
    await registry.start()
    yield registry
    await registry.close()
    assert not backend.open_names


async def load(folder: Path, registry: Registry, groups: str, more: str = "") -> None:
    """Write the model's configuration with these instance groups, and load it."""
    (folder / "m" / "1").mkdir(parents=True, exist_ok=True)
    (folder / "m" / "config.pbtxt").write_text(f"backend: 'fake'\n{ADD}instance_group [ {groups} ]\n{more}")
    await registry.load("m", LoadParameters())


async def test_a_count_is_changed_without_a_load(tmp_path: Path, registry: Registry, backend: Backend) -> None:
    """Instances are added to and taken from the model that serves, which stays the same."""
    await load(tmp_path, registry, "{ count: 1 }")
    model = registry.model("m")
    await load(tmp_path, registry, "{ count: 3 }")
    assert backend.open_names == ["m_0_0", "m_0_1", "m_0_2"]
    await load(tmp_path, registry, "{ count: 2 }")
    assert backend.open_names == ["m_0_0", "m_0_1"]
    assert registry.model("m") is model
    assert [group.count for group in model.config.proto.instance_group] == [2]


async def test_names_and_order_of_groups_are_no_change(tmp_path: Path, registry: Registry, backend: Backend) -> None:
    """What instances run on and claim decides; how groups are called, ordered and cut does not."""
    await load(tmp_path, registry, "{ name: 'a' count: 2 }, { name: 'b' count: 1 rate_limiter { priority: 2 } }")
    await load(tmp_path, registry, "{ name: 'c' count: 1 rate_limiter { priority: 2 } }, { count: 1 }, { count: 1 }")
    assert len(backend.opened) == 3
    assert len(backend.open_names) == 3
    await load(tmp_path, registry, "{ count: 2 rate_limiter { priority: 2 } }, { count: 1 }")
    assert (len(backend.opened), len(backend.open_names)) == (4, 3)


async def test_anything_else_that_changes_is_a_load(tmp_path: Path, registry: Registry, backend: Backend) -> None:
    """Where another field or a file has changed too, every instance is a new one."""
    await load(tmp_path, registry, "{ count: 1 }")
    model = registry.model("m")
    await load(tmp_path, registry, "{ count: 2 }", "parameters { key: 'a' value { string_value: 'b' } }")
    assert registry.model("m") is not model
    assert len(backend.opened) == 3


async def test_a_refused_change_leaves_the_model_as_it_was(
    tmp_path: Path, registry: Registry, backend: Backend
) -> None:
    """Where an instance cannot be opened, or could never run, the load fails with the reason and all goes on."""
    await load(tmp_path, registry, "{ count: 1 rate_limiter { resources { name: 'R' count: 1 } } }")
    with pytest.raises(InvalidArgument, match='Resource count for "R" is limited to 2'):
        await load(tmp_path, registry, "{ count: 1 rate_limiter { resources { name: 'R' count: 3 } } }")
    backend.refuses = True
    with pytest.raises(InvalidArgument, match="no memory for another one"):
        await load(tmp_path, registry, "{ count: 1 rate_limiter { resources { name: 'R' count: 2 } } }")
    assert backend.open_names == ["m_0_0"]
    reply = SingleReply(asyncio.get_running_loop())
    registry.submit(InferRequest("m", inputs=[Tensor("x", "FP32", (1,), b"\0\0\0\0")]), reply)
    assert (await asyncio.wait_for(reply.future, 60)).outputs
    backend.refuses = False
    await load(tmp_path, registry, "{ count: 1 rate_limiter { resources { name: 'R' count: 2 } } }")
    assert (len(backend.opened), len(backend.open_names)) == (2, 1)


async def test_passive_instances_change_too(tmp_path: Path, registry: Registry, backend: Backend) -> None:
    """Instances that get no requests are opened and closed by the same rule."""
    await load(tmp_path, registry, "{ count: 1 }, { count: 2 passive: true }")
    await load(tmp_path, registry, "{ count: 1 }, { count: 1 passive: true }")
    assert len(backend.opened) == 3
    assert len(backend.open_names) == 2


async def test_requests_under_way_survive_a_hundred_changes(
    tmp_path: Path, registry: Registry, backend: Backend
) -> None:
    """Under a steady load, with the instances changing all the time, every request is answered."""
    await load(tmp_path, registry, "{ count: 2 }")
    answered, changing = 0, True
    # What loads is another thread: a loop that never rests would have it wait for the interpreter at every file.
    rest_s = 0.001

    async def ask() -> None:
        nonlocal answered
        while changing:
            reply = SingleReply(asyncio.get_running_loop())
            registry.submit(InferRequest("m", inputs=[Tensor("x", "FP32", (1,), b"\0\0\0\0")]), reply)
            assert (await asyncio.wait_for(reply.future, 60)).outputs
            answered += 1
            await asyncio.sleep(rest_s)

    asking = [asyncio.ensure_future(ask()) for _ in range(4)]
    for turn in range(100):
        await load(tmp_path, registry, f"{{ count: {1 + turn % 4} }}")
    changing = False
    await asyncio.gather(*asking)
    assert answered > 100
    assert len(backend.open_names) == 4
