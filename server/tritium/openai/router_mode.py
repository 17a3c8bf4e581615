"""POST /router/mode: how a model's router picks workers from now on, until the model is loaded anew."""

import msgspec

from tritium.llm.models import LanguageModels
from tritium.openai.options import OpenAIOptions
from tritium.openai.schema import Reader
from tritium.openai.visit import Visit
from tritium.wire.http import Response


class RouterMode(msgspec.Struct, forbid_unknown_fields=True):
    """A model, and the mode of its router as the fleet's setting names it."""

    model: str
    router: str


_READER = Reader(RouterMode)


async def set_router_mode(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /router/mode."""
    call = visit.read(_READER)
    served = models.find(call.model)
    mode = served.model.fleet.route_by(call.router)
    answer = RouterMode(served.name, mode)
    return Response(200, [(b"content-type", b"application/json"), *visit.headers], [msgspec.json.encode(answer)])
