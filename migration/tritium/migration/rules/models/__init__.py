"""Rules of models."""

from tritium.migration.rules.models.configuration import RULES as CONFIGURATION

RULES = (*CONFIGURATION,)
