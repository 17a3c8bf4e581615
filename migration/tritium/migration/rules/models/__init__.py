"""Rules of models."""

from tritium.migration.rules.models import behaviour, configuration, engines, formats
from tritium.migration.rules.models.arguments import FormerArgument, VllmModel

RULES = (*configuration.RULES, VllmModel, FormerArgument, *engines.RULES, *formats.RULES, *behaviour.RULES)
