"""Rules of what watches the server and scales it."""

from tritium.migration.rules.watching.metrics import RULES as METRICS

RULES = (*METRICS,)
