"""APIs that only clients with the right header may use, as --http-restricted-api and --grpc-restricted-protocol say.

    --http-restricted-api=model-repository,logging:admin-key=secret

Source: server/src/restricted_features.h and command_line_parser.cc, 2.73.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hmac import compare_digest


class Api(StrEnum):
    """What can be restricted; every route and every method belongs to one."""

    HEALTH = "health"
    METADATA = "metadata"
    INFERENCE = "inference"
    SHARED_MEMORY = "shared-memory"
    MODEL_CONFIG = "model-config"
    MODEL_REPOSITORY = "model-repository"
    STATISTICS = "statistics"
    TRACE = "trace"
    LOGGING = "logging"


@dataclass(frozen=True, slots=True)
class Restriction:
    """The header a request must have, and its value."""

    header: str
    value: str = field(repr=False)

    def allows(self, given: bytes) -> bool:
        """Tell whether this is the value; how long that takes says nothing about it."""
        return compare_digest(given, self.value.encode())


class RestrictionError(ValueError):
    """A restriction that cannot be read."""


def parse(groups: Sequence[str], *, what: str = "api") -> Mapping[Api, Restriction]:
    """Read groups of the form `api,api:header=value`; `what` is what messages call their members: api or protocol.

    Raises:
        RestrictionError: in Triton's words.
    """
    found: dict[Api, Restriction] = {}
    for group in groups:
        names, colon, setting = group.partition(":")
        header, equals, value = setting.partition("=")
        if not colon or not equals or not header:
            shown = f"{group.partition('=')[0]}=***" if "=" in group else group  # what follows may be the secret
            raise RestrictionError(f"a restricted {what} group is <{what}>,<{what}>:<header>=<value>, not '{shown}'")
        for name in names.split(","):
            if name not in set(Api):
                raise RestrictionError(f"unknown restricted {what} '{name}'; there are: {', '.join(Api)}")
            if Api(name) in found:
                raise RestrictionError(f"restricted {what} '{name}' can not be specified in multiple config groups")
            found[Api(name)] = Restriction(header, value)
    return found
