"""The models that are loaded, were loaded, or failed to: what lookups and the repository index are answered from.

The registry changes it; every reader is on the same event loop and sees either the old model or the new one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from tritium.compat.config import messages
from tritium.core.catalog import IndexEntry
from tritium.core.errors import InvalidArgument, NotFound, StillLoading, Unavailable
from tritium.core.model import Model, State
from tritium.repository.candidate import Candidate

_LONGEST_NAME = 200
"""Characters of a name that is compared with those of the models."""


@dataclass(slots=True)
class Shelved:
    """One version: its state, the reason the index gives for it, and the model while it is there."""

    version: str
    state: State
    reason: str = ""
    model: Model | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Record:
    """One model. `wanted` until it is unloaded; `explicit` when it was asked for by its own name.

    `reached` once a load got as far as the model; before, an ensemble may be waiting for its members. `loaded` is the
    candidate that the versions on the shelf were made of.
    """

    candidate: Candidate
    wanted: bool = True
    explicit: bool = False
    reached: bool = False
    loaded: Candidate | None = None
    versions: dict[str, Shelved] = field(default_factory=dict)

    @property
    def ready(self) -> list[Shelved]:
        """Return the versions that take requests, ascending."""
        found = [shelved for shelved in self.versions.values() if shelved.state is State.READY]
        return sorted(found, key=lambda shelved: int(shelved.version))


class Shelf:
    """Records by name, with the two lookups that every request makes kept as plain dicts."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        """By the candidates' keys."""
        self._keys: dict[str, list[str]] = {}
        self._newest: dict[str, Model] = {}
        self._ready: dict[tuple[str, str], Model] = {}
        self._owners: dict[str, str] = {}
        """Keys of the models that have, or had when they were loaded last, these other names."""

    def refresh(self, key: str) -> None:
        """Renew the lookups of a model after its record has changed."""
        record = self.records[key]
        self._forget(key, record)
        self._show(key, record)
        name = record.candidate.name
        if name != key:
            # Without its namespace a name is that of the one model that has it, if it is but one.
            for one in self.keys(name):
                self._forget(name, self.records[one])
            if len(known := self._wanted(name)) == 1:
                self._show(name, self.records[known[0]])

    def enter(self, candidate: Candidate) -> Record:
        """Return the record of a model, a new one where there is none yet."""
        record = self.records.get(candidate.key)
        if record is None:
            record = self.records[candidate.key] = Record(candidate)
            self._keys.setdefault(candidate.name, []).append(candidate.key)
        return record

    def keys(self, name: str) -> Sequence[str]:
        """Return the keys of the models of that name: itself, unless repositories are namespaces or it is an alias."""
        if name in self.records:
            return (name,)
        return self._keys.get(name) or ((self._owners[name],) if name in self._owners else ())

    @property
    def aliases(self) -> list[str]:
        """Return the names that models have beside their own."""
        return sorted(name for name in self._owners if name not in self._keys)

    def taken(self, key: str, aliases: Sequence[str]) -> str:
        """Return why a model cannot have these other names, or nothing: each name stands for one model."""
        for alias in aliases:
            owner = self._owners.get(alias, key)
            if self._wanted(alias) and alias in self._keys:
                return f"its alias '{alias}' is the name of a model"
            if owner != key and self.records[owner].wanted:
                return f"its alias '{alias}' is an alias of model '{owner}'"
        return ""

    def named_by(self, name: str) -> str:
        """Return the name of the model that is or was loaded with this alias; what is no alias is a model's own."""
        if name in self._keys or name not in self._owners:
            return name
        return self.records[self._owners[name]].candidate.name

    def owner(self, name: str) -> str:
        """Return the name of the model of which this is an alias now; empty where it is none."""
        record = self.records.get(self._owners.get(name, ""))
        return record.candidate.name if record is not None and record.wanted and record.ready else ""

    def _wanted(self, name: str) -> list[str]:
        return [key for key in self.keys(name) if self.records[key].wanted]

    def _forget(self, name: str, record: Record) -> None:
        for version in record.versions:
            self._ready.pop((name, version), None)
        self._newest.pop(name, None)
        for alias in [alias for alias, owner in self._owners.items() if owner == record.candidate.key]:
            for version in record.versions:
                self._ready.pop((alias, version), None)
            self._newest.pop(alias, None)

    def _show(self, name: str, record: Record) -> None:
        if record.ready:
            self._owners = {alias: key for alias, key in self._owners.items() if key != record.candidate.key}
        for shelved in record.ready:
            assert shelved.model is not None
            self._ready[name, shelved.version] = self._newest[name] = shelved.model
            for alias in shelved.model.aliases:
                self._ready[alias.name, shelved.version] = self._newest[alias.name] = alias
                self._owners[alias.name] = record.candidate.key

    def model(self, name: str, version: str = "") -> Model:
        """Return a loaded version, the newest where none is named; `name` may be a key.

        Raises:
            NotFound, Unavailable, InvalidArgument: in Triton's words.
        """
        found = self._ready.get((name, version)) if version else self._newest.get(name)
        if found is not None:
            return found
        record = self._record(name)
        if record is None or not record.reached:
            raise NotFound(messages.unknown_model(name), hint=self._near(name))
        if not version and any(shelved.state is State.LOADING for shelved in record.versions.values()):
            raise StillLoading(messages.no_versions(name), hint="it is being loaded")
        if not version:
            raise NotFound(messages.no_versions(name), hint=self._reason(record))
        if version not in record.versions:
            there = ", ".join(self.versions(name))
            raise NotFound(messages.unknown_model(name, version), hint=f"its versions are {there}" if there else "")
        raise Unavailable(messages.not_ready(name, version), hint=record.versions[version].reason)

    def _record(self, name: str) -> Record | None:
        """Return the record of a model.

        Raises:
            InvalidArgument: several namespaces have one of that name.
        """
        keys = self.keys(name)
        wanted = self._wanted(name) if len(keys) > 1 else keys
        if len(wanted) > 1:
            raise InvalidArgument(messages.ambiguous(name, len(wanted)))
        return self.records[(wanted or keys)[0]] if keys else None

    def models(self) -> list[Model]:
        """Return every version that takes requests, by name and version."""
        found = [s.model for name in sorted(self.records) for s in self.records[name].ready if s.model is not None]
        aliases = [alias for model in found for alias in model.aliases]
        return sorted(found + aliases, key=lambda model: model.name) if aliases else found

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that take requests, ascending; `name` may be a key."""
        keys = self._wanted(name) or self.keys(name)
        return [shelved.version for shelved in self.records[keys[0]].ready] if len(keys) == 1 else []

    def labels(self, name: str, version: str, output: str) -> Sequence[str]:
        """Return the class labels of an output, in order; empty where there are none.

        Outputs of an ensemble that name no file of their own have the labels of the member that makes them.
        """
        keys = self._wanted(name)
        record = self.records[keys[0]] if len(keys) == 1 else None
        shelved = record.versions.get(version) if record else None
        if record is None or shelved is None:
            return ()
        if output in shelved.labels:
            return shelved.labels[output]
        for step in record.candidate.config.ensemble_scheduling.step:
            for inner, outer in step.output_map.items():
                if outer == output:
                    member = record.candidate.linked(step)
                    newest = self.versions(member)[-1:]
                    version = "".join(newest) if step.model_version < 0 else str(step.model_version)
                    return self.labels(member, version, inner)
        return ()

    def healthy(self) -> bool:
        """Tell whether every model that was loaded and not unloaded can take requests, as Triton counts it."""
        for record in self.records.values():
            if record.reached and record.wanted and not record.versions:
                return False
            for shelved in record.versions.values():
                if shelved.reason != messages.UNLOADED and not (shelved.model is not None and shelved.model.ready):
                    return False
        return True

    def entries(self, key: str, *, ready_only: bool) -> list[IndexEntry]:
        """Return the lines of the repository index for one model."""
        record, name = self.records.get(key), key.rpartition("::")[2]
        if record is None and key in self._owners:
            record = self.records[self._owners[key]]
        if record is None or not record.reached:
            return [] if ready_only else [IndexEntry(name)]
        lines = []
        for shelved in sorted(record.versions.values(), key=lambda s: int(s.version)):
            state, reason = shelved.state, shelved.reason
            if state is State.READY and shelved.model is not None and not shelved.model.ready:
                state, reason = State.UNAVAILABLE, "no instance of it is healthy"
            if state is State.READY or not ready_only:
                lines.append(IndexEntry(name, shelved.version, state, reason))
        return lines

    def _near(self, name: str) -> str:
        """Ask for the loaded model whose name is nearly this one; a name as long as a text is no slip."""
        near = get_close_matches(name, self._newest, n=1) if len(name) <= _LONGEST_NAME else []
        return f"did you mean {near[0]}?" if near else ""

    @staticmethod
    def _reason(record: Record) -> str:
        return next((s.reason for s in record.versions.values() if s.reason and s.reason != messages.UNLOADED), "")
