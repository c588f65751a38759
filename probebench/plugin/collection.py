"""Make the cases of a test function from its `probe` mark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from probebench.catalog.cases import ARGUMENTS, Case, CaseFilter, Sweep, expand
from probebench.catalog.specs import LIBRARIES
from probebench.errors import ProbebenchError, nearest
from probebench.plugin.collected import Withheld
from probebench.plugin.items import CASE, SWEEP
from probebench.plugin.preselection import Preselection, takes_whole

if TYPE_CHECKING:
    from probebench.catalog.taps import Tap
    from probebench.plugin.session import ProbeSession

ANY_OF = {f"{library}:*": f"{library}:" for library in LIBRARIES}
"""Stand in a mark for every model of a library that --probe-model names, such as ``timm:*`` for ``timm:``."""


def parametrize(metafunc: pytest.Metafunc, state: ProbeSession) -> None:
    """Make the cases of a test function; mistakes in its mark are added to the session's errors."""
    params: list[Any] = []
    try:
        state.prepare()
    except ProbebenchError as error:  # not a mistake of this test function
        if str(error) not in state.errors:
            state.errors.append(str(error))
        _parametrize(metafunc, params)
        return
    try:
        sweeps = _expand(metafunc, state)
        state.sweeps.update(sweeps)
        if state.sharding is not None:
            state.sharding.add(sweeps)
        preselection, whole = Preselection(metafunc), takes_whole(metafunc.config, metafunc.definition)
        group = metafunc.definition.path.stem.removeprefix("test_")
        for sweep, taps in sweeps.items():
            chosen = preselection.choose(sweep, taps)
            if not chosen:
                continue
            skipped = state.availability.decide(sweep, len(chosen))
            if skipped is not None and not skipped.named:
                if whole:
                    state.withheld.setdefault(sweep, Withheld(group, skipped))
                continue
            params += [
                pytest.param(
                    None if skipped else sweep,
                    skipped or case,
                    id=case.id,
                    marks=pytest.mark.probe(**case.marks),
                )
                for case in (Case(sweep, tap) for tap in chosen)
            ]
    except ProbebenchError as error:
        # An error inside collection would end with exit code 2 and a traceback; see pytest_collection_modifyitems.
        where = f"{metafunc.definition.path.name}::{metafunc.function.__name__}"
        state.errors.append(f"{where}: {error}")
    _parametrize(metafunc, params)


def _parametrize(metafunc: pytest.Metafunc, params: list[Any]) -> None:
    metafunc.parametrize(
        (SWEEP, CASE),
        params or [pytest.param(None, None, id="none")],  # deselected in pytest_collection_modifyitems
        indirect=[SWEEP],
        scope="session",
    )


def _expand(metafunc: pytest.Metafunc, state: ProbeSession) -> dict[Sweep, list[Tap]]:
    """The sweeps that the mark of a test function describes, and their taps."""
    catalog, selection = state.prepare()
    marks = list(metafunc.definition.iter_markers("probe"))
    if len(marks) > 1:
        raise ProbebenchError(
            "has more than one probe mark (its own, its class's or its module's), so that -m could not select "
            "exactly; keep one"
        )
    mark = marks[0] if marks else None
    kwargs = dict(mark.kwargs) if mark else {}
    example = "such as @pytest.mark.probe(model=..., dataset=...)"
    if mark is not None and mark.args:
        given = ", ".join(map(repr, mark.args))
        raise ProbebenchError(f"the arguments of the probe mark need their names, {example}; {given} has none")
    if extra := sorted(kwargs.keys() - set(ARGUMENTS)):
        near = nearest(extra[0], ARGUMENTS)
        raise ProbebenchError(f"the probe mark takes model, dataset, layer and site, not {', '.join(extra)}.{near}")
    if not {"model", "dataset"} <= kwargs.keys():
        raise ProbebenchError(f"needs a mark that says what to measure, {example}")
    models, datasets, layers, sites = (_list(kwargs.get(key)) for key in ("model", "dataset", "layer", "site"))
    for every in [model for model in models if model in ANY_OF]:
        models.remove(every)
        models += [model for model in state.options.models if model.startswith(ANY_OF[every])]
    own = CaseFilter.parse(catalog, models, datasets, layers, sites)
    specs = [catalog.model(model) for model in models]
    models = [spec.name for spec in specs]
    chosen = [spec.depth for spec in specs if selection.models is None or spec.name in selection.models]
    state.deepest = max(state.deepest, *chosen, 0)
    options = state.options
    return expand(
        catalog,
        models,
        datasets,
        options.protocol,
        [own, selection],
        poolings=options.poolings,
        combinations=options.combinations,
    )


def _list(value: Any) -> list[Any]:
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)  # the same order in every process
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
