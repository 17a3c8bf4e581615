"""Schedulers as a client sees them: the response cache, batches held together, the rate limiter, queue policies."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from qa.e2e.product import Product
from tritonclient.utils import InferenceServerException

IDENTITY = """backend: "identity" max_batch_size: %d
input { name: "INPUT0" data_type: TYPE_FP32 dims: -1 }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }
"""
PYTHON = (IDENTITY % 1).replace("identity", "python")
MEETING = """import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.mine = Path(args["model_repository"]) / "runs"
        self.others = self.mine.parent.parent / ("b" if args["model_name"] == "a" else "a") / "runs"
        self.mine.unlink(missing_ok=True)

    def execute(self, requests):
        until_s = time.monotonic() + float(requests[0].inputs()[0].as_numpy()[0, 0])
        self.mine.touch()
        while not self.others.exists() and time.monotonic() < until_s:
            time.sleep(0.001)
        met = self.others.exists()
        if not met:
            self.mine.unlink()
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([[met]], np.float32))])]
"""
GATED = """import time
from pathlib import Path
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        while not Path("{gate}").exists():
            time.sleep(0.001)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""


def repository(root: Path, **models: str) -> str:
    """Write models of the identity backend and return their repository."""
    for name, text in models.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(text)
    return str(root)


def tensor(library: Any, values: list[float], *, binary: bool = True) -> list[Any]:
    """Make the input of an identity model: one batch element of these values."""
    made = library.InferInput("INPUT0", [1, len(values)], "FP32")
    options = {"binary_data": binary} if library is http_client else {}
    made.set_data_from_numpy(np.array([values], np.float32), **options)
    return [made]


def statistics(client: Any, model: str) -> dict[str, Any]:
    """Return the statistics of a model's only version."""
    found: dict[str, Any] = client.get_inference_statistics(model)["model_stats"][0]
    return found


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for clients that wait."""
    with ThreadPoolExecutor(16) as executor:
        yield executor


def test_one_answer_for_every_encoding(start: Callable[..., Product], tmp_path: Path) -> None:
    """What was asked for as JSON is answered from the cache in binary and over gRPC; other values are not."""
    models = repository(tmp_path, cached=IDENTITY % 4 + "response_cache { enable: true }", plain=IDENTITY % 4)
    product = start(models, "--cache-config=local,size=65536")
    with (
        http_client.InferenceServerClient(product.url("HTTP")) as http,
        grpc_client.InferenceServerClient(product.url("gRPC")) as grpc,
    ):
        for model in ("cached", "plain"):
            answers = [
                http.infer(model, tensor(http_client, [1.5, 2.5], binary=False)),
                http.infer(model, tensor(http_client, [1.5, 2.5])),
                grpc.infer(model, tensor(grpc_client, [1.5, 2.5]), request_id="third"),
                http.infer(model, tensor(http_client, [1.5, 3.5])),
            ]
            assert [answer.as_numpy("OUTPUT0").tolist() for answer in answers] == [[[1.5, 2.5]]] * 3 + [[[1.5, 3.5]]]
            assert answers[2].get_response().id == "third"
        counted = statistics(http, "cached")
        assert (counted["inference_count"], counted["inference_stats"]["success"]["count"]) == (2, 4)
        assert [counted["inference_stats"][name]["count"] for name in ("cache_hit", "cache_miss")] == [2, 2]
        assert statistics(http, "plain")["inference_stats"]["cache_hit"]["count"] == 0


def test_a_cache_that_cannot_be_used_stops_the_start(start: Callable[..., Product], tmp_path: Path) -> None:
    """Settings that contradict each other, or a Redis that is not there: exit status 2 and the reason."""
    models = repository(tmp_path, m=IDENTITY % 1)
    for arguments, reason in (
        (["local,size=1", "redis,host=h"], "found multiple cache configurations"),
        (["redis,host=localhost", "redis,port=0"], "failed to connect to Redis (localhost:0): Connection refused"),
    ):
        product = start(models, *(f"--cache-config={argument}" for argument in arguments))
        assert product.wait() == 2
        assert reason in product.output


def test_requests_that_wait_together_run_together(
    start: Callable[..., Product], tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """TRITONSERVER_DELAY_SCHEDULER holds requests back until so many wait; they are cut by shape, in order."""
    batching = 'dynamic_batching {} input { name: "INPUT1" data_type: TYPE_FP32 dims: 1 optional: true }'
    batching += ' output { name: "OUTPUT1" data_type: TYPE_FP32 dims: 1 }'
    product = start(repository(tmp_path, m=IDENTITY % 8 + batching), environment={"TRITONSERVER_DELAY_SCHEDULER": "5"})
    asked: list[Future[Any]] = []
    with grpc_client.InferenceServerClient(product.url("gRPC")) as client:
        for values in ([1.0], [2.0], [3.0], [4.0, 5.0], [6.0, 7.0]):
            asked.append(pool.submit(client.infer, "m", tensor(grpc_client, values)))
            wait_for(lambda: pending(product, "m") == len(asked) or len(asked) == 5)
        assert [answer.result().as_numpy("OUTPUT0").size for answer in asked] == [1, 1, 1, 2, 2]
    assert metric(product, "nv_inference_count", "m") == 5
    assert metric(product, "nv_inference_exec_count", "m") == 2
    assert metric(product, "tritium_batch_cut_total", "m", "shape") == 1


def test_a_resource_for_one_model_at_a_time(
    start: Callable[..., Product], tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """With one unit of a resource two models take turns, and without the limiter they run side by side."""
    limited = PYTHON + "instance_group { count: 1 kind: KIND_CPU rate_limiter { resources { name: 'R' count: 1 } } }"
    models = repository(tmp_path, a=limited, b=limited)
    for name in "ab":
        (tmp_path / name / "1" / "model.py").write_text(MEETING)
    # Seconds that each waits for the other: without the limiter it comes, however late.
    for arguments, patience_s, met in ((["--rate-limit=execution_count"], 0.3, 0.0), ([], 60.0, 1.0)):
        product = start(models, *arguments)
        with grpc_client.InferenceServerClient(product.url("gRPC")) as client:
            asked = [pool.submit(client.infer, model, tensor(grpc_client, [patience_s])) for model in "ab"]
            assert [answer.result().as_numpy("OUTPUT0").item() for answer in asked] == [met, met]
        product.kill()


def test_a_request_that_waits_too_long(start: Callable[..., Product], tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """A request's own timeout, shorter than its queue's, rejects it while the instance is busy; others go on."""
    policy = """dynamic_batching { default_queue_policy {
        default_timeout_microseconds: 10000000 allow_timeout_override: true max_queue_size: 2 } }"""
    models = repository(tmp_path, m=PYTHON + policy)
    (tmp_path / "m" / "1" / "model.py").write_text(GATED.replace("{gate}", str(tmp_path / "gate")))
    product = start(models, environment={"TRITONSERVER_DELAY_SCHEDULER": "2"})
    with grpc_client.InferenceServerClient(product.url("gRPC")) as client:
        runs = pool.submit(client.infer, "m", tensor(grpc_client, [1.0]))
        wait_for(lambda: pending(product, "m") == 1)
        waits = pool.submit(client.infer, "m", tensor(grpc_client, [2.0]), timeout=50_000)
        with pytest.raises(InferenceServerException, match="Request timeout expired") as caught:
            waits.result()
        assert not runs.done()
        (tmp_path / "gate").touch()
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        assert runs.result().as_numpy("OUTPUT0").item() == 1.0
    assert metric(product, "nv_inference_request_failure", "m", "REJECTED") == 1


def pending(product: Product, model: str) -> int:
    """Return how many requests of a model wait."""
    return int(metric(product, "nv_inference_pending_request_count", model))


def metric(product: Product, name: str, model: str, reason: str = "") -> float:
    """Read one of a model's metrics."""
    with urllib.request.urlopen(f"http://{product.url('metrics')}/metrics", timeout=60) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f'{name}{{model="{model}"') and (not reason or f'reason="{reason}"' in line):
                return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no {name} of {model}")


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
