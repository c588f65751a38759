"""Choose the sweeps of a record to draw, their order, and the models that are drawn together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from probebench.errors import ProbebenchError, unknown
from probebench.records.view import RecordView, SweepView


@dataclass(frozen=True)
class Family:
    """A base model with what is drawn beside it on one dataset.

    Attributes:
        base: the name of the model
        dataset: on which the sweeps were measured
        pretrained: its sweep; None if that was not measured or not selected
        tuned, controls: the sweeps of models that were tuned from it, and of its random controls
    """

    base: str
    dataset: str
    pretrained: SweepView | None
    tuned: list[SweepView]
    controls: list[SweepView]

    @property
    def members(self) -> list[SweepView]:
        return [*([self.pretrained] if self.pretrained else []), *self.tuned, *self.controls]


def bases(contents: RecordView, tuned: Mapping[str, str]) -> dict[str, str]:
    """By model, the model that it is drawn with: itself, or the one that it is a control of or was tuned from.

    Args:
        tuned: by model, the one that it was tuned from, in addition to what the record says

    Raises:
        UnknownName: if a name in `tuned` is no model of the record
        ProbebenchError: if a random control would be tuned, or something from it, or a model from itself
    """
    controls = {sweep.model for sweep in contents.sweeps if sweep.control_of}
    for name in (name for pair in tuned.items() for name in pair):
        if name not in contents.models:
            raise unknown("model", name, contents.models)
        if name in controls:
            raise ProbebenchError(f"{name} is a random control: it was not tuned, and nothing was tuned from it")
    near = {sweep.model: sweep.control_of or sweep.record.get("tuned_from") for sweep in contents.sweeps}
    near |= tuned
    return {model: _farthest(model, near) for model in contents.models}


def _farthest(model: str, near: Mapping[str, str | None]) -> str:
    seen = [model]
    while (base := near.get(seen[-1])) is not None:
        if base in seen:
            raise ProbebenchError(f"{base} would be tuned from itself: {' from '.join([*seen, base])}")
        seen.append(base)
    return seen[-1]


def families(
    contents: RecordView, base_of: Mapping[str, str], models: Iterable[str], datasets: Iterable[str]
) -> list[Family]:
    """The families on each dataset that have a selected model; a base brings its relatives."""
    selected, found = set(models), []
    for dataset in datasets:
        sweeps = contents.datasets[dataset]
        for base in dict.fromkeys(base_of[sweep.model] for sweep in sweeps):
            own = [s for s in sweeps if base_of[s.model] == base and (s.model in selected or base in selected)]
            family = Family(
                base=base,
                dataset=dataset,
                pretrained=next((s for s in own if s.model == base), None),
                tuned=[s for s in own if s.model != base and s.control_of is None],
                controls=[s for s in own if s.control_of is not None],
            )
            if family.members:
                found.append(family)
    return found


def by_shift(contents: RecordView, sweeps: Sequence[SweepView]) -> list[SweepView]:
    """Sweeps of one model by growing measured distance from the pretraining data; those without a distance come last.

    A random control has no pretraining data: its datasets are in the order of its model's.
    """

    def key(sweep: SweepView) -> tuple[bool, float]:
        value = distance(contents, sweep)
        return value is None, value or 0.0

    return sorted(sweeps, key=key)


def distance(contents: RecordView, sweep: SweepView) -> float | None:
    """The distance of a sweep's dataset, for a control that of its model; None if it was not measured."""
    of = contents.by_key.get((sweep.control_of or sweep.model, sweep.dataset), sweep)
    return of.distance[0] if of.distance is not None else None
