"""The response cache in front of a model: what is a hit, what is kept, what is counted, and what makes room."""

from types import ModuleType
from typing import Any

import pytest

from tritium.core.cache.cached_model import CachedModel, with_cache
from tritium.core.cache.entry import entry
from tritium.core.cache.key import KeyMaker
from tritium.core.cache.store import Insertion, LocalStore
from tritium.core.errors import InferenceError, ModelFailed
from tritium.core.request import InferRequest, InferResponse, RequestedOutput
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel

CACHED = "response_cache { enable: true }"


def make_model(fakes: ModuleType, instance: Any, extra: str = "", store: LocalStore | None = None) -> Any:
    """Return a model that asks for the cache, behind one."""
    model = TensorModel(fakes.config(CACHED + extra + fakes.ADD_SUB), "1", [instance])
    return with_cache(model, LocalStore(1 << 20) if store is None else store)


def add_sub(fakes: ModuleType, value: int, *, request_id: str = "", outputs: tuple[str, ...] = ()) -> InferRequest:
    """Return a request whose first input is made of one byte."""
    first = fakes.tensor("INPUT0", (4,), data=bytes([value]) * 16)
    request = fakes.request(first, fakes.tensor("INPUT1", (4,)), outputs=outputs, id=request_id)
    assert isinstance(request, InferRequest)
    return request


async def answer(fakes: ModuleType, model: Any, request: InferRequest) -> InferResponse | InferenceError:
    """Return the only response to a request."""
    reply = fakes.Collector()
    model.submit(request, reply)
    item = await reply.one()
    assert isinstance(item, InferResponse | InferenceError)
    return item


async def test_equal_inputs_run_once(fakes: ModuleType) -> None:
    """The second request is answered with the first one's outputs and its own id, and counted as a hit."""
    instance = fakes.FakeInstance()
    model = make_model(fakes, instance)
    first = await answer(fakes, model, add_sub(fakes, 1, request_id="a"))
    second = await answer(fakes, model, add_sub(fakes, 1, request_id="b"))
    other = await answer(fakes, model, add_sub(fakes, 2))
    assert isinstance(first, InferResponse)
    assert isinstance(second, InferResponse)
    assert isinstance(other, InferResponse)
    assert (first.id, second.id, second.model_name, second.model_version) == ("a", "b", "add_sub", "1")
    assert [t.data for t in second.outputs] == [t.data for t in first.outputs] != [t.data for t in other.outputs]
    assert len(instance.batches) == 2
    counted = model.statistics
    assert (counted.success.count, counted.inference_count, counted.execution_count) == (3, 2, 2)
    assert (counted.cache_hit.count, counted.cache_miss.count) == (1, 2)
    assert counted.cache_hit.ns > 0
    assert counted.cache_miss.ns > 0


async def test_errors_are_not_kept(fakes: ModuleType) -> None:
    """A request that failed is run again."""
    answers = iter([ModelFailed("not today"), [Tensor("OUTPUT0", "FP32", (4,), bytes(16))]])
    instance = fakes.FakeInstance(lambda job: next(answers))
    model = make_model(fakes, instance)
    assert isinstance(await answer(fakes, model, add_sub(fakes, 1)), ModelFailed)
    assert isinstance(await answer(fakes, model, add_sub(fakes, 1)), InferResponse)
    assert (model.statistics.cache_miss.count, model.statistics.cache_hit.count) == (1, 0)


async def test_kept_outputs_are_copies(fakes: ModuleType) -> None:
    """A model that writes over the memory of its response does not change what is kept."""
    memory = bytearray(b"\1" * 16)
    instance = fakes.FakeInstance(lambda job: [Tensor("OUTPUT0", "FP32", (4,), memoryview(memory))])
    model = make_model(fakes, instance)
    await answer(fakes, model, add_sub(fakes, 1))
    memory[:] = b"\2" * 16
    again = await answer(fakes, model, add_sub(fakes, 1))
    assert isinstance(again, InferResponse)
    assert again.outputs[0].data == b"\1" * 16


async def test_requests_for_other_outputs_are_other_requests(fakes: ModuleType) -> None:
    """A response with one output does not answer a request for both."""
    model = make_model(fakes, fakes.FakeInstance())
    one = await answer(fakes, model, add_sub(fakes, 1, outputs=("OUTPUT0",)))
    both = await answer(fakes, model, add_sub(fakes, 1))
    assert isinstance(one, InferResponse)
    assert isinstance(both, InferResponse)
    assert [t.name for t in one.outputs] == ["OUTPUT0"]
    assert [t.name for t in both.outputs] == ["OUTPUT0", "OUTPUT1"]


async def test_a_reloaded_model_starts_without_entries(fakes: ModuleType) -> None:
    """What one load of a model answered is not served for the next, which may be another model."""
    store = LocalStore(1 << 20)
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    await answer(fakes, make_model(fakes, first, store=store), add_sub(fakes, 1))
    await answer(fakes, make_model(fakes, second, store=store), add_sub(fakes, 1))
    assert (len(first.batches), len(second.batches)) == (1, 1)


async def test_a_hit_keeps_the_order(fakes: ModuleType) -> None:
    """Where a model preserves the order of its responses, a hit waits for the request before it."""
    instance = fakes.FakeInstance()
    model = make_model(fakes, instance, "max_batch_size: 1 dynamic_batching { preserve_ordering: true }")
    shaped = [fakes.tensor("INPUT0", (1, 4)), fakes.tensor("INPUT1", (1, 4))]
    slow = [fakes.tensor("INPUT0", (1, 4), data=b"\5" * 16), fakes.tensor("INPUT1", (1, 4))]
    await answer(fakes, model, fakes.request(*shaped))
    instance.hold()
    before, hit = fakes.Collector(), fakes.Collector()
    model.submit(fakes.request(*slow), before)
    model.submit(fakes.request(*shaped), hit)
    await instance.seen(2)
    assert not hit.final.is_set()
    instance.release()
    await before.one()
    await hit.one()
    assert model.statistics.cache_hit.count == 1


async def test_equal_requests_at_the_same_time_are_one_miss(fakes: ModuleType) -> None:
    """Of two that ran because neither found the other's answer, the second finds its entry present."""
    instance = fakes.FakeInstance(held=True)
    model = make_model(fakes, instance)
    replies = [fakes.Collector(), fakes.Collector()]
    for reply in replies:
        model.submit(add_sub(fakes, 1), reply)
    instance.release()
    for reply in replies:
        await reply.one()
    assert (model.statistics.cache_miss.count, model.statistics.success.count) == (1, 2)


async def test_a_model_that_is_gone_answers_nothing(fakes: ModuleType) -> None:
    """A closed model refuses also what is in the store."""
    model = make_model(fakes, fakes.FakeInstance())
    await answer(fakes, model, add_sub(fakes, 1))
    await model.close()
    assert isinstance(await answer(fakes, model, add_sub(fakes, 1)), InferenceError)


async def test_only_models_that_ask_for_it_are_cached(fakes: ModuleType) -> None:
    """Without `response_cache` in its configuration, or without a cache in the server, a model is as it was."""
    asking = TensorModel(fakes.config(CACHED + fakes.ADD_SUB), "1", [])
    not_asking = TensorModel(fakes.config(fakes.ADD_SUB), "1", [])
    assert with_cache(asking, None) is asking
    assert with_cache(not_asking, LocalStore(100)) is not_asking
    assert isinstance(with_cache(asking, LocalStore(100)), CachedModel)


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        ([Tensor("B", "INT32", (2,), b"12345678"), Tensor("A", "BYTES", (1,), b"\1\0\0\0x")], True),
        (
            [Tensor("A", "BYTES", (1,), memoryview(b"\1\0\0\0x")), Tensor("B", "INT32", (2,), bytearray(b"12345678"))],
            True,
        ),
        ([Tensor("A", "BYTES", (1, 1), b"\1\0\0\0x"), Tensor("B", "INT32", (2,), b"12345678")], False),
        ([Tensor("A", "BYTES", (1,), b"\1\0\0\0x"), Tensor("B", "FP32", (2,), b"12345678")], False),
        ([Tensor("A", "BYTES", (1,), b"\1\0\0\0y"), Tensor("B", "INT32", (2,), b"12345678")], False),
        ([Tensor("A", "BYTES", (1,), b"\1\0\0\0x")], False),
    ],
    ids=["another order", "other buffers", "another shape", "another datatype", "other content", "an input less"],
)
def test_what_makes_requests_equal(other: list[Tensor], equal: bool) -> None:  # noqa: FBT001  parametrized
    """Names, datatypes, shapes and bytes count; the order of inputs and the kind of buffer do not."""
    maker = KeyMaker("m", "1")
    one = InferRequest("m", inputs=[Tensor("A", "BYTES", (1,), b"\1\0\0\0x"), Tensor("B", "INT32", (2,), b"12345678")])
    assert (maker.key(InferRequest("m", inputs=other)) == maker.key(one)) is equal


def test_other_models_versions_and_outputs_have_other_keys() -> None:
    """A key belongs to one model, one version and one choice of outputs; parameters and ids do not count."""
    request = InferRequest("m", inputs=[Tensor("A", "INT8", (1,), b"x")])
    keys = {KeyMaker(*names).key(request) for names in (("m", "1"), ("m", "2"), ("n", "1"), ("m", "1", "edition"))}
    assert len(keys) == 4
    alike = InferRequest("m", id="7", inputs=list(request.inputs), parameters={"p": 1}, priority=3, timeout_us=4)
    asking = InferRequest("m", inputs=list(request.inputs), outputs=[RequestedOutput("Y")])
    maker = KeyMaker("m", "1")
    assert maker.key(alike) == maker.key(request) != maker.key(asking)


def kept(size: int) -> Any:
    """Return an entry whose tensor has this many bytes."""
    return entry((Tensor("Y", "INT8", (size,), bytes(size)),), {})


def test_the_store_stays_within_its_size() -> None:
    """The least recently used entries make room; what is larger than the whole store is refused with the reason."""
    reports: list[str] = []
    store = LocalStore(3 * kept(100).size_bytes, reports.append)
    found: list[Any] = []
    for key in (b"a", b"b", b"c"):
        assert store.insert(key, kept(100)) is Insertion.STORED
    store.lookup(b"a", found.append)
    assert store.insert(b"d", kept(100)) is Insertion.STORED
    for key in (b"a", b"b", b"c", b"d"):
        store.lookup(key, found.append)
    assert [one is not None for one in found] == [True, True, False, True, True]
    assert store.used_bytes == 3 * kept(100).size_bytes
    assert store.insert(b"a", kept(1)) is Insertion.PRESENT
    assert store.insert(b"e", kept(4000)) is Insertion.REFUSED
    assert "Failed to insert key [65] into response cache: the entry takes" in reports[0]
    assert (len(store), store.evictions) == (3, 1)
