"""What the plugin knows of one pytest session, from its options to its run record."""

from __future__ import annotations

import traceback
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from probebench.options import Options

if TYPE_CHECKING:
    from probebench.asking import Asked
    from probebench.cases import Case, Selection, Sweep
    from probebench.catalog import Catalog, DatasetSpec, ModelSpec
    from probebench.engines.ray import RayEngine
    from probebench.journal import Journal
    from probebench.preflight import Preflight, Withheld
    from probebench.pruning import Pruning
    from probebench.results import Record
    from probebench.run import Run
    from probebench.sharding import Sharding
    from probebench.workers import Controller, Worker

Spec = TypeVar("Spec", "ModelSpec", "DatasetSpec")


class Stopped:
    """Whether the session was told to stop: pytest may trip over the traceback of Ctrl-C before its status says it."""

    told = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self.told = True


@dataclass
class State:
    """One pytest session. Found in its config's stash, under `STATE`.

    Attributes:
        errors: mistakes in marks, found while collecting
        notes: lines for the end of the run
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
        journal: of the sweeps that are over; None in a run without cases
        overlooked: folders of baselines that lie with the cases and are not in use
        stopped: whether it was told to stop
    """

    config: pytest.Config
    options: Options
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sweeps: set[Sweep] = field(default_factory=set)
    deepest: int = 0
    withheld: dict[str, Withheld] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    family: int = 0
    run: Run | None = None
    record: Record | None = None
    pruning: Pruning | None = None
    sharding: Sharding | None = None
    controller: Controller | None = None
    worker: Worker | None = None
    engine: RayEngine | None = None
    journal: Journal | None = None
    overlooked: list[Path] = field(default_factory=list)
    stopped: Stopped = field(default_factory=Stopped)
    _prepared: tuple[Catalog, Selection] | None = None
    _preflight: Preflight | None = None

    def prepare(self) -> tuple[Catalog, Selection]:
        """The catalog and the selection of this run, made when first needed.

        Raises:
            ProbebenchError: for names that do not exist
        """
        if self._prepared is None:
            from probebench.cases import Selection
            from probebench.catalog import Catalog, DatasetSpec, ModelSpec
            from probebench.errors import ProbebenchError

            options, config = self.options, self.config
            models = _given(config, "pytest_probebench_models", ModelSpec)
            datasets = _given(config, "pytest_probebench_datasets", DatasetSpec)
            catalog = Catalog.default().extended(models, datasets)
            # By the name that the rest of the run knows a model by, which for one of timm is made of what was typed.
            own: dict[str, Path] = {}
            for typed, path in options.weights.items():
                name = catalog.model(typed).name
                if name in own:
                    raise ProbebenchError(f"--probe-weights names two files for model {name!r}")
                own[name] = path
            self.options = replace(options, weights=own)
            selection = Selection.parse(catalog, options.models, options.datasets, options.layers, options.sites)
            self._prepared = catalog, selection
        return self._prepared

    @property
    def catalog(self) -> Catalog:
        return self.prepare()[0]

    @property
    def asked(self) -> Asked:
        """What the command line names."""
        from probebench.asking import Asked

        (_, selection), option = self.prepare(), self.config.option
        return Asked.parse(
            selection.models or (), selection.datasets or (), option.keyword, option.markexpr, self.config.args
        )

    @property
    def preflight(self) -> Preflight:
        """What decides which sweeps of this run are withheld, made when first needed."""
        if self._preflight is None:
            from probebench.preflight import Preflight
            from probebench.protocols import get_protocol

            catalog, options = self.catalog, self.options
            here = (self.worker and self.worker.here) or ({}, {})
            clean = get_protocol(options.protocol).train_on == "clean"
            self._preflight = Preflight(
                catalog, options.weights, self.asked, options.offline, options.licences, clean, here
            )
        return self._preflight

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

    def check_layers(self) -> None:
        """After collection, when all models are known: add an error for layers of --probe-layer that none has."""
        from probebench.cases import parse_layers
        from probebench.errors import UnknownName

        for text in self.options.layers if self.deepest else ():
            try:
                parse_layers(text, self.deepest)
            except UnknownName as error:
                self.errors.append(f"--probe-layer: {error}")

    def begin(self, cases: Collection[Case], withheld: Collection[Withheld]) -> None:
        """Collection has finished: make the run, if there is something to run or to tell of.

        Raises:
            ProbebenchError: for a licence that no model has, or if a weights file is not there, something that it was
                asked to write cannot be written, or the device does not exist or lacks the precision
        """
        self.withheld |= {each.sweep.id: each for each in withheld}
        if self.controller is None and (cases or self.withheld):  # its workers know all models
            self.preflight.check_licences()
        if cases and self.engine is None:  # what the nodes of a cluster have, this machine does not know
            from probebench.weights import own_file

            for name in dict.fromkeys([*self.options.weights, *(case.sweep.model for case in cases)]):
                own_file(self.catalog.model(name), self.options.weights.get(name))
        if cases:
            from probebench.journal import Journal

            self.journal = Journal(self.options, cases, self.catalog, resume=self.options.resume)
        if self.worker is not None:
            self.worker.check(self.options, cases)
        elif cases or self.withheld:
            from probebench.run import Run

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
                from probebench import precision
                from probebench.protocols import get_protocol
                from probebench.sweep import choose_device

                precision.check(get_protocol(run.options.protocol).precision, choose_device(run.options.device))
            self.run = run

    def begun(self) -> Run:
        """The run; in a worker made now, when there is something to measure."""
        if self.run is None:
            assert self.worker is not None
            from probebench.run import Run

            self.run = Run(self.worker.share(self.options), self.catalog, self.family, journal=self.journal)
        return self.run

    def withhold(self, withheld: Withheld) -> None:
        """A sweep turned out not to be possible."""
        self.withheld[withheld.sweep.id] = withheld
        if self.worker is not None:
            self.worker.withhold(withheld)


def _given(config: pytest.Config, hook: str, kind: type[Spec]) -> list[Spec]:
    """The specs that conftest files and plugins give.

    Raises:
        ProbebenchError: if one of them fails, or gives something else
    """
    from probebench.errors import ProbebenchError

    found: list[Spec] = []
    try:
        for given in getattr(config.hook, hook)(config=config):
            found += [given] if isinstance(given, kind) else given
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = next((f"{each.filename}:{each.lineno}: " for each in reversed(frames) if each.name == hook), "")
        raise ProbebenchError(f"{where}{hook} failed ({type(error).__name__}: {error})") from error
    for spec in found:
        if not isinstance(spec, kind):
            raise ProbebenchError(f"{hook} gave {spec!r}, which is no {kind.__name__}: return a list of these")
    return found


STATE: pytest.StashKey[State] = pytest.StashKey()
