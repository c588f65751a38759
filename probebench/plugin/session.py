"""What the plugin knows of one pytest session, from its options to its run record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from probebench.measure.options import Options

if TYPE_CHECKING:
    from probebench.catalog import Catalog, DatasetSpec, ModelSpec
    from probebench.catalog.cases import Case, CaseFilter, Sweep
    from probebench.measure.availability import Availability, Here, SkippedSweep
    from probebench.measure.ray.engine import RayEngine
    from probebench.measure.resume import ResumeStore
    from probebench.measure.run import Run
    from probebench.plugin.expressions import RequestedNames
    from probebench.plugin.prune import Pruning
    from probebench.plugin.registry import ConftestSpecs
    from probebench.plugin.shard import Sharding
    from probebench.plugin.xdist.controller import Controller
    from probebench.plugin.xdist.worker import Worker
    from probebench.records.types import Record


class Stopped:
    """Whether the session was told to stop: pytest may trip over the traceback of Ctrl-C before its status says it."""

    told = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self.told = True


@dataclass
class ProbeSession:
    """One pytest session. Found in its config's stash, under `STATE`.

    Attributes:
        errors: mistakes in marks, found while collecting
        notes: lines for the end of the run
        marked: by node id of a function, class or module with a probe mark, whether a test in it takes the fixture
        sweeps: those with cases, before pytest's own options leave some out, or --probe-shard
        deepest: the number of layers of the deepest model that a mark names and the command line does not leave out
        withheld: by id of the sweep
        first: by id of the sweep, the node id of its first item
        family: number of cases that share the error level of the verdicts
        run: None until collection has finished, and in a run without cases
        record: None until the session ends
        pruning, sharding: there if the options of that name are
        controller: of a session whose tests run in worker processes
        worker: of one that is such a process, on the machine of its controller
        engine: of one whose sweeps run on a cluster
        specs: digests of the models and datasets that have cases, by the process that collected them
        journal: of the sweeps that are over; None in a run without cases
        overlooked: folders of baselines that lie with the cases and are not in use
        stopped: whether it was told to stop
    """

    config: pytest.Config
    options: Options
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    marked: dict[str, bool] = field(default_factory=dict)
    sweeps: set[Sweep] = field(default_factory=set)
    deepest: int = 0
    withheld: dict[str, SkippedSweep] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    family: int = 0
    run: Run | None = None
    record: Record | None = None
    pruning: Pruning | None = None
    sharding: Sharding | None = None
    controller: Controller | None = None
    worker: Worker | None = None
    engine: RayEngine | None = None
    specs: dict[str, str] = field(default_factory=dict)
    journal: ResumeStore | None = None
    overlooked: list[Path] = field(default_factory=list)
    stopped: Stopped = field(default_factory=Stopped)
    _prepared: tuple[Catalog, CaseFilter] | None = None
    _registered: ConftestSpecs | None = None
    _preflight: Availability | None = None

    def prepare(self) -> tuple[Catalog, CaseFilter]:
        """The catalog and the selection, as far as conftest files are known by now.

        A model or dataset of the command line that none has given yet selects nothing; `check_names` has the last word.

        Raises:
            ProbebenchError: if what they give cannot be used; for layers and sites that do not exist
        """
        models, datasets = self.registered.waiting()
        if self._prepared is None or models or datasets:
            self.extend(models, datasets)
        assert self._prepared is not None
        return self._prepared

    @property
    def registered(self) -> ConftestSpecs:
        """What conftest files and plugins have added."""
        if self._registered is None:
            from probebench.plugin.registry import ConftestSpecs

            self._registered = ConftestSpecs(self.config)
        return self._registered

    def extend(self, models: Sequence[ModelSpec], datasets: Sequence[DatasetSpec]) -> None:
        """Add to the catalog.

        Raises:
            ProbebenchError: as `prepare`
        """
        from probebench.models import default_catalog

        catalog = (self._prepared[0] if self._prepared else default_catalog()).extend(models, datasets)
        self.options = replace(self.options, weights=_by_name(self.options.weights, catalog))
        self._prepared = catalog, self._select(catalog, partial=True)
        self.registered.taken()
        if self._preflight is not None:
            self._preflight = self._make_preflight(self._preflight.here)

    def _select(self, catalog: Catalog, *, partial: bool) -> CaseFilter:
        from probebench.catalog.cases import CaseFilter

        chosen = self.options
        return CaseFilter.parse(catalog, chosen.models, chosen.datasets, chosen.layers, chosen.sites, partial=partial)

    @property
    def catalog(self) -> Catalog:
        return self.prepare()[0]

    @property
    def asked(self) -> RequestedNames:
        """What the command line names."""
        from probebench.plugin.expressions import RequestedNames

        (_, selection), option = self.prepare(), self.config.option
        return RequestedNames.parse(
            selection.models or (), selection.datasets or (), option.keyword, option.markexpr, self.config.args
        )

    @property
    def preflight(self) -> Availability:
        """What decides which sweeps of this run are withheld, made when first needed."""
        if self._preflight is None:
            self._preflight = self._make_preflight((self.worker and self.worker.here) or ({}, {}))
        return self._preflight

    def _make_preflight(self, here: Here) -> Availability:
        from probebench.catalog.protocols import get_protocol
        from probebench.measure.availability import Availability

        catalog, options = self.catalog, self.options
        clean = get_protocol(options.protocol).train_on == "clean"
        return Availability(catalog, options.weights, self.asked, options.offline, options.licences, clean, here)

    def check_weights(self) -> None:
        """After collection: a file for a model that no test has would be left out of the run.

        Raises:
            ProbebenchError: if --probe-weights names one
        """
        from probebench.errors import ProbebenchError, nearest

        models = {sweep.model for sweep in self.sweeps}
        with_cases = {self.catalog.model(name).typed for name in models}
        for name in self.options.weights:
            if name not in models:
                typed = self.catalog.model(name).typed
                known = f"Those with cases: {', '.join(sorted(with_cases))}" if with_cases else "No model has"
                raise ProbebenchError(
                    f"--probe-weights: model {typed!r} has no case in this run.{nearest(typed, with_cases)} {known}."
                )

    def check_names(self) -> None:
        """After collection, when all models are known: add errors for names of options that do not exist.

        Layers have to be some of the deepest model that has cases.
        """
        from probebench.catalog.cases import parse_layers
        from probebench.errors import ProbebenchError, UnknownName

        try:
            self._select(self.catalog, partial=False)
        except ProbebenchError as error:
            if str(error) not in self.errors:
                self.errors.append(str(error))
            return
        for text in self.options.layers if self.deepest else ():
            try:
                parse_layers(text, self.deepest)
            except UnknownName as error:
                self.errors.append(f"--probe-layer: {error}")

    def begin(self, cases: Collection[Case], withheld: Collection[SkippedSweep]) -> None:
        """Collection has finished: make the run, if there is something to run or to tell of.

        Raises:
            ProbebenchError: for a licence that no model has, or if a weights file is not there, something that it was
                asked to write cannot be written, or the device does not exist or lacks the precision
        """
        self.withheld |= {each.sweep.id: each for each in withheld}
        if self.controller is None and (cases or self.withheld):  # its workers know all models
            self.preflight.check_licences()
        if cases and self.engine is None:  # what the nodes of a cluster have, this machine does not know
            from probebench.models.checkpoint import own_file

            for name in dict.fromkeys([*self.options.weights, *(case.sweep.model for case in cases)]):
                own_file(self.catalog.model(name), self.options.weights.get(name))
        if cases:
            from probebench.measure.resume import ResumeStore, described

            self.specs = self.specs or described(self.catalog, cases)
            self.journal = ResumeStore(self.options, cases, self.specs, resume=self.options.resume)
        if self.worker is not None:
            self.worker.check(self.options, cases)
        elif cases or self.withheld:
            from probebench.measure.run import Run

            if self.controller is None:
                run = Run(self.options, self.catalog, self.family, journal=self.journal)
            else:
                hardware = self.controller.hardware(cases)
                run = Run(self.options, self.catalog, self.family, hardware, journal=self.journal)
            run.check_writable()
            if self.engine is not None:
                if cases:
                    self.engine.begin(cases)
            elif self.controller is None:  # its workers do: who looks at a GPU takes some of its memory, and keeps it
                from probebench._hardware import choose_device
                from probebench.catalog.protocols import get_protocol
                from probebench.models.precision import check_precision

                check_precision(get_protocol(run.options.protocol).precision, choose_device(run.options.device))
            self.run = run

    def begun(self) -> Run:
        """The run; in a worker made now, when there is something to measure."""
        if self.run is None:
            assert self.worker is not None
            from probebench.measure.run import Run

            self.run = Run(self.worker.share(self.options), self.catalog, self.family, journal=self.journal)
        return self.run

    def withhold(self, withheld: SkippedSweep) -> None:
        """A sweep turned out not to be possible."""
        self.withheld[withheld.sweep.id] = withheld
        if self.worker is not None:
            self.worker.withhold(withheld)


def _by_name(weights: Mapping[str, Path], catalog: Catalog) -> dict[str, Path]:
    """Weights by the name that the rest of the run knows a model by, which for one of timm is made of what was typed.

    Raises:
        ProbebenchError: for two files for one model
    """
    from probebench.errors import ProbebenchError, UnknownName

    own: dict[str, Path] = {}
    for typed, path in weights.items():
        name = typed
        with suppress(UnknownName):  # a conftest file may still give it
            name = catalog.model(typed).name
        if name in own:
            raise ProbebenchError(f"--probe-weights names two files for model {name!r}")
        own[name] = path
    return own


STATE: pytest.StashKey[ProbeSession] = pytest.StashKey()
