"""Names in several repositories that are namespaces of their own (--model-namespacing).

A step of an ensemble runs the model of that name in the ensemble's own repository; where it has none, the one that
is in any other, if there is but one. Source: core/src/model_repository_manager/model_repository_manager.cc.
"""

from collections.abc import Mapping
from dataclasses import replace

from tritium.repository.candidate import Candidate


def link(candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """Return the candidates with the links of ensembles set; a step that fits several or no models gets none."""
    keys: dict[str, list[str]] = {}
    for key, candidate in candidates.items():
        keys.setdefault(candidate.name, []).append(key)
    return {key: replace(one, links=_links(one, keys)) if one.members else one for key, one in candidates.items()}


def _links(candidate: Candidate, keys: Mapping[str, list[str]]) -> dict[str, str]:
    links = {}
    for step in candidate.config.ensemble_scheduling.step:
        found = keys.get(step.model_name, [])
        asked = f"{step.model_namespace}::{step.model_name}"
        own = f"{candidate.namespace}::{step.model_name}"
        if step.model_namespace:
            links[asked] = asked
        elif own in found:
            links[step.model_name] = own
        elif len(found) == 1:
            links[step.model_name] = found[0]
    return links
