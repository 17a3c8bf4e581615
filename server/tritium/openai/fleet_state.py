"""POST /fleet: how a model's fleet stands, and what of it is to change while it serves."""

import msgspec

from tritium.cluster.standing import FleetReport
from tritium.llm.models import LanguageModels
from tritium.openai.options import OpenAIOptions
from tritium.openai.schema import Reader
from tritium.openai.status import json_response
from tritium.openai.visit import Visit
from tritium.wire.http import Response


class FleetCall(msgspec.Struct, forbid_unknown_fields=True):
    """A model; `setting` as the fleet's own, as far as that can change, or the roles of `workers` by name."""

    model: str
    setting: str = ""
    workers: dict[str, str] = {}


class FleetState(msgspec.Struct):
    """The answer to POST /fleet."""

    model: str
    fleet: FleetReport


_READER = Reader(FleetCall)


async def change_fleet(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /fleet."""
    call = visit.read(_READER)
    served = models.find(call.model)
    report = await served.model.fleet.change(call.setting, call.workers)
    return json_response(visit, FleetState(served.name, report))
