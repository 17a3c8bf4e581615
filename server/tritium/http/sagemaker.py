"""The port of Amazon SageMaker: GET /ping, POST /invocations of one model, and /models for many (`multi_model`).

Which model, how it is asked and what a ping asks for come from the variables that SageMaker's containers set. Paths
that are not known are answered 400 with nothing, as Triton does.
Source: server/src/sagemaker_server.cc, 2.73.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tritium.compat.restrictions import Api
from tritium.core.catalog import Repositories
from tritium.http import generate, health, infer
from tritium.http.front import Front
from tritium.http.multi_model import MultiModel
from tritium.http.routes import Route, follow, route
from tritium.http.target import Target
from tritium.wire.http import Handler, Request, Response

UNKNOWN_MODEL = "unspecified_SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
INFERENCES = {
    "infer": infer.infer,
    "generate": generate.generate_once,
    "generate_stream": generate.generate_stream,
}
_UNKNOWN = Response(400, ((b"content-type", b"text/plain"),))


@dataclass(frozen=True, slots=True)
class SageMaker:
    """The model that is invoked, the extension it is invoked by, and whether a ping asks for `ready` or `live`."""

    model: str = UNKNOWN_MODEL
    inference: str = "infer"
    ping: str = "ready"


def read(environment: Mapping[str, str]) -> SageMaker:
    """Read the variables of a SageMaker container.

    Raises:
        ValueError: the extension is none there is.
    """
    settings = SageMaker(
        environment.get("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", UNKNOWN_MODEL),
        environment.get("SAGEMAKER_TRITON_INFERENCE_TYPE", "infer"),
        environment.get("SAGEMAKER_TRITON_PING_MODE", "ready"),
    )
    if settings.inference not in INFERENCES:
        raise ValueError(
            f"SAGEMAKER_TRITON_INFERENCE_TYPE is one of {', '.join(INFERENCES)}, not '{settings.inference}'"
        )
    return settings


def handler(front: Front, settings: SageMaker, repositories: Repositories) -> Handler:
    """Make the handler of a SageMaker port."""
    many = MultiModel(front, repositories)
    routes: dict[str, tuple[Route, Target]] = {
        "/ping": (
            route(Api.HEALTH, "/ping", get=health.live if settings.ping == "live" else health.ready),
            Target(),
        ),
        "/invocations": (
            route(Api.INFERENCE, "/invocations", post=INFERENCES[settings.inference]),
            Target(settings.model),
        ),
    }

    async def handle(request: Request) -> Response | None:
        found = routes.get(request.path)
        if found is not None:
            return await follow(request, front, *found)
        return await many.handle(request) if request.path.startswith("/models") else _UNKNOWN

    return handle
