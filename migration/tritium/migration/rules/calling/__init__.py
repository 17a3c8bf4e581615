"""Rules of clients."""

from tritium.migration.rules.calling.clients import RULES as CLIENTS

RULES = (*CLIENTS,)
