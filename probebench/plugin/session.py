"""One pytest session of probebench, from its options to its run record."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from probebench.errors import Note
from probebench.measure.options import Options
from probebench.plugin.child_process import check_process
from probebench.plugin.collected import Collected, Withheld
from probebench.plugin.time_limit import describe_stop, no_alarm

if TYPE_CHECKING:
    from probebench.catalog import Catalog, DatasetSpec, ModelSpec
    from probebench.catalog.cases import Case, CaseFilter, Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.availability import Availability, RequestedNames, SkippedSweep
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.resume import ResumeStore
    from probebench.measure.run import Run
    from probebench.plugin.engine import Engine, WorkerEngine
    from probebench.plugin.prune import Pruning
    from probebench.plugin.registry import ConftestSpecs
    from probebench.plugin.shard import Sharding
    from probebench.records.types import Record
    from probebench.reporting.finished import FinishedSweeps


@dataclass
class ProbeSession:
    """One pytest session. Found in its config's stash, under `SESSION`.

    Attributes:
        config, options: known from the start
        engine: measures the sweeps; set when the session starts
        worker: the same object, in a worker process of pytest-xdist
        pruning, sharding: None without the options of that name
        errors: mistakes in marks, found while collecting
        notes: lines for the end of the run
        marked: by node id of a function, class or module with a probe mark, True if a test in it takes the fixture
        withheld: the sweeps that have no tests, because they lack something that the command line does not name
        sweeps: those with cases, before pytest's own options, or --probe-shard, leave some out
        deepest: the number of layers of the deepest model that a mark names and the command line does not leave out
        collected: what the run consists of; empty until collection is over
        skipped: the sweeps that are not measured, those included whose download failed
        finished: counts the sweeps that are over, and has a line for each; None in a run without cases
        resume_store: finished sweeps on disk; None in a run without cases
        began: the time of `time.perf_counter` when the run began; None before, and in a run without cases
        undescribed: models whose preparation of images is shown when their weights have been downloaded
        unreachable: the reasons why something could not be downloaded, of sweeps that `run` does not have
        run: None until the first sweep is measured here, or elsewhere if anything is
        failed: node ids of the tests of cases that pytest counts as failed
        record: None until the tests are over
        process: its id
        summarized: whether the end of the report was printed
    """

    config: pytest.Config
    options: Options
    engine: Engine = field(init=False)
    worker: WorkerEngine | None = None
    pruning: Pruning | None = None
    sharding: Sharding | None = None
    errors: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    marked: dict[str, bool] = field(default_factory=dict)
    withheld: dict[Sweep, Withheld] = field(default_factory=dict)
    sweeps: set[Sweep] = field(default_factory=set)
    deepest: int = 0
    collected: Collected = field(default_factory=Collected)
    skipped: dict[Sweep, SkippedSweep] = field(default_factory=dict)
    finished: FinishedSweeps | None = None
    resume_store: ResumeStore | None = None
    began: float | None = None
    undescribed: set[str] = field(default_factory=set)
    unreachable: list[str] = field(default_factory=list)
    run: Run | None = None
    failed: set[str] = field(default_factory=set)
    record: Record | None = None
    process: int = field(default_factory=os.getpid)
    summarized: bool = False
    _prepared: tuple[Catalog, CaseFilter] | None = None
    _conftest_specs: ConftestSpecs | None = None
    _availability: Availability | None = None

    # The catalog, which grows as pytest loads conftest files

    def prepare(self) -> tuple[Catalog, CaseFilter]:
        """The catalog and the selection, as far as conftest files are known by now.

        A model or dataset of the command line that is not known yet selects nothing; `check_names` reports it if that
        is so when collection is over.

        Raises:
            ProbebenchError: if a conftest file gives an invalid spec; for layers and sites that do not exist
        """
        models, datasets = self.conftest_specs.collect_new()
        if self._prepared is None or models or datasets:
            self.extend(models, datasets)
        assert self._prepared is not None
        return self._prepared

    @property
    def conftest_specs(self) -> ConftestSpecs:
        """The specs that conftest files and plugins have added."""
        if self._conftest_specs is None:
            from probebench.plugin.registry import ConftestSpecs

            self._conftest_specs = ConftestSpecs(self.config)
        return self._conftest_specs

    def extend(self, models: Sequence[ModelSpec], datasets: Sequence[DatasetSpec]) -> None:
        """Add to the catalog.

        Raises:
            ProbebenchError: as `prepare`
        """
        from probebench.models import default_catalog

        catalog = (self._prepared[0] if self._prepared else default_catalog()).extend(models, datasets)
        self.options = replace(self.options, weights=_name_weights(self.options.weights, catalog))
        self._prepared = catalog, self._select(catalog, partial=True)
        self.conftest_specs.mark_taken()
        if self._availability is not None:
            self._availability.extend(catalog, self.options.weights, self.requested)

    def _select(self, catalog: Catalog, *, partial: bool) -> CaseFilter:
        from probebench.catalog.cases import CaseFilter

        chosen = self.options
        return CaseFilter.parse(catalog, chosen.models, chosen.datasets, chosen.layers, chosen.sites, partial=partial)

    @property
    def catalog(self) -> Catalog:
        return self.prepare()[0]

    @property
    def requested(self) -> RequestedNames:
        """The names on the command line, which may be downloaded."""
        from probebench.plugin.expressions import parse_requested_names

        (_, selection), option = self.prepare(), self.config.option
        return parse_requested_names(
            selection.models or (), selection.datasets or (), option.keyword, option.markexpr, self.config.args
        )

    @property
    def availability(self) -> Availability:
        """Decides which sweeps are skipped. Made when first needed."""
        if self._availability is None:
            from probebench.catalog.protocols import get_protocol
            from probebench.measure.availability import Availability

            options, clean = self.options, get_protocol(self.options.protocol).train_on == "clean"
            here = self.worker.here if self.worker is not None else ({}, {})
            self._availability = Availability(
                self.catalog, options.weights, self.requested, options.offline, options.licences, clean, here
            )
        return self._availability

    # The end of collection

    def check_names(self) -> None:
        """Check after collection that the names on the command line exist, and add an error for each that does not.

        Layers must exist in the deepest model that has cases.
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

    def note_unmatched(self) -> None:
        """Add a note if names on the command line select nothing, or no test case was generated.

        Raises:
            UnknownName: for a name that the catalog does not have
        """
        options = self.options
        selected = " ".join(self._unmatched_names()) if self.sweeps else options.selected
        mark = "`@pytest.mark.probe(model=..., dataset=...)`"
        if selected:
            text = f"No test case matches {selected}: {mark} in a test file joins a model and a dataset."
            self.notes.append(Note("info", text))
        elif not self.sweeps:
            text = "the probe mark lists no model, or uses `timm:*` without --probe-model=timm:NAME."
            self.notes.append(Note("info", f"No test case was generated: {text}"))

    def _unmatched_names(self) -> list[str]:
        models, datasets = {sweep.model for sweep in self.sweeps}, {sweep.dataset for sweep in self.sweeps}
        catalog, options = self.catalog, self.options
        unused = [f"--probe-model={name}" for name in options.models if catalog.model(name).name not in models]
        return unused + [
            f"--probe-dataset={name}" for name in options.datasets if datasets.isdisjoint(catalog.dataset_names(name))
        ]

    def check_collected(self, collected: Collected) -> None:
        """Check options against what this process has collected.

        Raises:
            ProbebenchError: for --probe-weights of a model without cases, and a licence that no model has
        """
        if self.options.weights and not collected.incomplete:
            self._check_weights()
        if collected.items or collected.withheld:
            self.availability.check_licences()

    def _check_weights(self) -> None:
        """Check that every --probe-weights model is used by some test.

        Raises:
            ProbebenchError: if one is not
        """
        from probebench.errors import ProbebenchError, nearest

        models = {sweep.model for sweep in self.sweeps}
        with_cases = {self.catalog.model(name).typed for name in models}
        for name in self.options.weights:
            if name not in models:
                typed = self.catalog.model(name).typed
                known = f"Models with cases: {', '.join(sorted(with_cases))}" if with_cases else "No model has cases"
                raise ProbebenchError(
                    f"--probe-weights: model {typed!r} has no case in this run.{nearest(typed, with_cases)} {known}."
                )

    def begin(self, collected: Collected) -> None:
        """Begin the run, in any process, when collection is over.

        Raises:
            ProbebenchError: if a weights file does not exist, an output cannot be written, or the engine cannot begin
            pytest.UsageError: for --probe-prune in a run that does not have all cases
        """
        self.collected, self.skipped = collected, dict(collected.skipped)
        if self.pruning is not None and self.worker is None and not collected.incomplete:
            self.pruning.begin(collected)
        if not collected.items and not collected.withheld:
            return
        cases, options = collected.cases, self.options
        if cases and options.engine == "local":  # the files that other machines have are not known here
            self._check_own_files(cases)
        if cases:
            from probebench.measure.resume import ResumeStore

            self.resume_store = ResumeStore(options, cases, collected.specs, resume=options.resume)
        if self.worker is None:
            from probebench.plugin.outputs import check_writable

            check_writable(options)
        self.engine.begin(cases)
        self.began = time.perf_counter()
        if cases and self.worker is None:
            from probebench.reporting.finished import FinishedSweeps

            taps = {sweep: len(its_taps) for sweep, its_taps in collected.taps.items()}
            self.finished = FinishedSweeps(taps, self.engine.places)

    def _check_own_files(self, cases: Iterable[Case]) -> None:
        """Raises WeightsError if a file of one's own with weights does not exist."""
        own = self.options.weights
        models = [self.catalog.model(name) for name in dict.fromkeys([*own, *(case.sweep.model for case in cases)])]
        for spec in models:
            if spec.checkpoint is not None or spec.name in own:
                from probebench.models.checkpoint import own_file

                own_file(spec, own.get(spec.name))

    def make_run(self, options: Options) -> Run:
        """Make the object that measures this session's sweeps and keeps their results. Imports torch."""
        with no_alarm():
            from probebench.measure.run import Run

        return Run(
            options,
            self.catalog,
            self.collected.family,
            journal=self.resume_store,
            began=self.began,
            interruptions=(pytest.exit.Exception,),
        )

    def ensure_run(self) -> Run:
        """The run, made when it is first needed: one that only finds out that there is no network needs none."""
        if self.run is None:
            self.run = self.make_run(self.options)
        return self.run

    # The run

    def measure(self, sweep: Sweep) -> SweepOutcome | SkippedSweep:
        """Measure a sweep, and note if it is skipped after all."""
        from probebench.measure.availability import SkippedSweep

        check_process(self.process)
        try:
            with no_alarm():
                import probebench.measure.outcome  # noqa: F401  # and numpy
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EncodingWarning)  # how libraries read files is their business
                found = self.engine.outcome(sweep)
        except pytest.fail.Exception as error:
            found = self.engine.stop(sweep, describe_stop(error))
        if isinstance(found, SkippedSweep):
            self.skipped[sweep] = found
        return found

    def measure_or_skip(
        self, sweep: Sweep, measure: Callable[[Sweep, Sequence[Tap]], SweepOutcome]
    ) -> SweepOutcome | SkippedSweep:
        """Measure a sweep in this process, unless what it needs cannot be downloaded."""
        taps = self.collected.taps[sweep]
        skipped = self.availability.decide(sweep, len(taps))
        if skipped is not None:
            if self.finished is not None:
                self.finished.drop(sweep)
            return skipped
        try:
            outcome = measure(sweep, taps)
        except pytest.skip.Exception as error:  # of a reader, as by pytest.importorskip
            if self.finished is not None:
                self.finished.drop(sweep)
            return self.availability.skip(sweep, len(taps), str(error))
        return self.skip_unreachable(sweep) if outcome.unreachable else outcome

    def skip_unreachable(self, sweep: Sweep) -> SkippedSweep:
        """Skip a sweep whose download failed because there is no network."""
        return self.availability.skip_unreachable(sweep, len(self.collected.taps[sweep]))


def _name_weights(weights: Mapping[str, Path], catalog: Catalog) -> dict[str, Path]:
    """Key weights files by the name under which the catalog has each model: a ``timm:`` name is typed differently.

    Raises:
        ProbebenchError: for two files for one model
    """
    from probebench.errors import ProbebenchError, UnknownName

    named: dict[str, Path] = {}
    for typed, path in weights.items():
        name = typed
        with suppress(UnknownName):  # a conftest file may still add it
            name = catalog.model(typed).name
        if name in named:
            raise ProbebenchError(f"--probe-weights names two files for model {name!r}")
        named[name] = path
    return named


SESSION: pytest.StashKey[ProbeSession] = pytest.StashKey()
