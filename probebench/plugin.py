"""The pytest plugin: hooks and fixtures only.

Everything heavy is imported inside the hooks that need it, so that a pytest run without cases costs nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from probebench.options import Options, add_options

if TYPE_CHECKING:
    from probebench.cases import Case, Selection
    from probebench.catalog import Catalog
    from probebench.fixture import Probe
    from probebench.preflight import Preflight, Withheld
    from probebench.run import Measured, Run

ANY_OF_TIMM = "timm:*"
"""As a model in a mark: every ``timm:`` model that --probe-model names."""

_SWEEP, _CASE = "_probe_sweep", "_probe_case"
UNMEASURED = ("probe", "not measured")
"""The property of a case whose sweep failed, and was explained by another one."""

_options: pytest.StashKey[Options] = pytest.StashKey()
_catalog: pytest.StashKey[Catalog] = pytest.StashKey()
_selection: pytest.StashKey[Selection] = pytest.StashKey()
_preflight: pytest.StashKey[Preflight] = pytest.StashKey()
_withheld: pytest.StashKey[dict[str, Withheld]] = pytest.StashKey()
_run: pytest.StashKey[Run] = pytest.StashKey()
_errors: pytest.StashKey[list[str]] = pytest.StashKey()
_notes: pytest.StashKey[list[str]] = pytest.StashKey()
_record: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from probebench import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "probe(model, dataset, layer, site): on a test function that uses the `probe` fixture, the models and datasets "
        "(names or lists; suites too) to make cases of, optionally only some layers and sites. Every case carries it "
        'with its own values, so -m \'probe(model="glyphvit", site="act")\' selects exactly.',
    )
    config.stash[_errors] = []
    config.stash[_notes] = []
    config.stash[_withheld] = {}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse bad options before any work: raising here ends the run with exit code 4."""
    from probebench.errors import ProbebenchError

    config = session.config
    try:
        options = config.stash[_options] = Options.from_pytest_config(config)
        if options.models or options.datasets or options.layers or options.sites or options.weights:
            _prepare(config)
        if config.getoption("probe_protocol") is not None:
            from probebench.protocols import get_protocol

            get_protocol(options.protocol)
        if options.prune:
            from probebench.pruning import Pruning, check_unfiltered

            check_unfiltered(config)
            config.pluginmanager.register(Pruning(options, _param, config.stash[_notes]))
    except ProbebenchError as error:
        raise pytest.UsageError(str(error)) from error


def _prepare(config: pytest.Config) -> tuple[Catalog, Selection]:
    """The catalog and the selection of this run, made when first needed."""
    if _selection not in config.stash:
        from probebench.cases import Selection
        from probebench.catalog import Catalog
        from probebench.errors import ProbebenchError

        options = config.stash[_options]
        models = [spec for specs in config.hook.pytest_probebench_models(config=config) for spec in specs]
        datasets = [spec for specs in config.hook.pytest_probebench_datasets(config=config) for spec in specs]
        catalog = config.stash[_catalog] = Catalog.default().extended(models, datasets)
        # By the name that the rest of the run knows a model by, which for one of timm is made of what was typed.
        own: dict[str, Path] = {}
        for typed, path in options.weights.items():
            name = catalog.model(typed).name
            if name in own:
                raise ProbebenchError(f"--probe-weights names two files for model {name!r}")
            own[name] = path
        config.stash[_options] = replace(options, weights=own)
        config.stash[_selection] = Selection.parse(
            catalog, options.models, options.datasets, options.layers, options.sites
        )
    return config.stash[_catalog], config.stash[_selection]


def _looked_at(config: pytest.Config) -> Preflight:
    """What decides which sweeps of this run are withheld, made when first needed."""
    if _preflight not in config.stash:
        from probebench.asking import Asked
        from probebench.preflight import Preflight

        options = config.stash[_options]
        catalog, selection = _prepare(config)
        asked = Asked.parse(
            selection.models or (), selection.datasets or (), config.option.keyword, config.option.markexpr, config.args
        )
        from probebench.protocols import get_protocol

        clean = get_protocol(options.protocol).train_on == "clean"
        config.stash[_preflight] = Preflight(catalog, options.weights, asked, options.offline, options.licences, clean)
    return config.stash[_preflight]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _SWEEP not in metafunc.fixturenames:
        return
    from probebench.cases import Selection, by_sweep, expand
    from probebench.errors import ProbebenchError

    config = metafunc.config
    where = f"{metafunc.definition.path.name}::{metafunc.function.__name__}"
    params = []
    try:
        catalog, selection = _prepare(config)
        marks = list(metafunc.definition.iter_markers("probe"))
        if len(marks) > 1:
            raise ProbebenchError(
                "has more than one probe mark (its own, its class's or its module's), so that -m could not select "
                "exactly; keep one"
            )
        mark = marks[0] if marks else None
        kwargs = dict(mark.kwargs) if mark else {}
        if mark is None or mark.args or not {"model", "dataset"} <= kwargs.keys():
            raise ProbebenchError(
                "needs a mark that says what to measure, such as @pytest.mark.probe(model=..., dataset=...)"
            )
        if extra := kwargs.keys() - {"model", "dataset", "layer", "site"}:
            raise ProbebenchError(f"the probe mark takes model, dataset, layer and site, not {', '.join(extra)}")
        models, datasets, layers, sites = (_list(kwargs.get(key)) for key in ("model", "dataset", "layer", "site"))
        if ANY_OF_TIMM in models:
            models.remove(ANY_OF_TIMM)
            models += [model for model in config.stash[_options].models if model.startswith("timm:")]
        own = Selection.parse(catalog, models, datasets, layers, sites)
        models = [catalog.model(model).name for model in models]
        cases = expand(catalog, models, datasets, config.stash[_options].protocol, [own, selection])
        for sweep, its_cases in by_sweep(cases).items():
            withheld = _looked_at(config).withhold(sweep, len(its_cases))
            if withheld is None or withheld.by_model:
                # What is asked for by name has its cases in any case, so that they can be selected, and skipped one
                # by one.
                params += [
                    pytest.param(
                        None if withheld else sweep,
                        withheld or case,
                        id=case.id,
                        marks=pytest.mark.probe(**case.marks),
                    )
                    for case in its_cases
                ]
            else:
                its_mark = pytest.mark.probe(model=sweep.model, dataset=sweep.dataset)
                params.append(pytest.param(None, withheld, id=sweep.id, marks=its_mark))
    except ProbebenchError as error:
        # An error inside collection would end with exit code 2 and a traceback; see pytest_collection_modifyitems.
        config.stash[_errors].append(f"{where}: {error}")
    metafunc.parametrize(
        (_SWEEP, _CASE),
        params or [pytest.param(None, None, id="none")],  # deselected in pytest_collection_modifyitems
        indirect=[_SWEEP],
        scope="session",
    )


def _list(value: Any) -> list[Any]:
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)  # the same order in every process
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _param(item: pytest.Item) -> Any:
    """The `Case`, or the `Withheld` that stands for many, of an item; None for other items."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(_CASE) if callspec is not None else None


# Both tell by an attribute: their classes are not imported in a run that has no cases.
def _case(item: pytest.Item) -> Case | None:
    param = _param(item)
    return cast("Case", param) if hasattr(param, "tap") else None


def _withheld_of(item: pytest.Item) -> Withheld | None:
    param = _param(item)
    return cast("Withheld", param) if hasattr(param, "why") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    errors = config.stash[_errors]
    if errors:
        raise pytest.UsageError("\n".join(errors))
    # A function of which the selection leaves no case is deselected, not skipped.
    empty = [item for item in items if _SWEEP in getattr(item, "fixturenames", ()) and _param(item) is None]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]
    if hasattr(config, "workerinput"):
        skip = pytest.mark.skip(reason="probebench measures in one process for now: run without -n")
        for item in items:
            if _param(item) is not None:
                item.add_marker(skip)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | list[str] | None:
    cases = [case for item in items if (case := _case(item)) is not None]
    if not cases or config.get_verbosity() < -1:
        return None
    options = config.stash[_options]
    from probebench.protocols import get_protocol

    protocol = get_protocol(options.protocol)
    header = (
        f"probebench: {len(cases)} cases in {len({case.sweep for case in cases})} sweeps, protocol {protocol.name} "
        f"({protocol.fingerprint}), device {options.device}, baselines {options.baselines}"
    )
    if config.option.collectonly:
        return header
    from probebench.errors import ProbebenchError
    from probebench.preflight import report

    models = dict.fromkeys(case.sweep.model for case in cases)
    own = {name: f"weights {path}" for name, path in options.weights.items()}
    try:
        lines = report([config.stash[_catalog].model(name) for name in models], protocol, own)
    except ProbebenchError as error:
        raise pytest.UsageError(str(error)) from error
    return header if config.get_verbosity() < 0 else [header, *lines]


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    cases = [case for item in session.items if (case := _case(item)) is not None]
    if config.option.collectonly or hasattr(config, "workerinput"):
        return
    for item in session.items:
        if (withheld := _withheld_of(item)) is not None:
            config.stash[_withheld][withheld.sweep.id] = withheld
    if not cases and not config.stash[_withheld]:
        return
    from probebench.errors import ProbebenchError
    from probebench.run import Run
    from probebench.sweep import choose_device

    run = Run(config.stash[_options], config.stash[_catalog])
    run.family = len(set(cases))
    try:
        run.check_writable()
        choose_device(run.options.device)
    except ProbebenchError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_run] = run


@pytest.fixture(scope="session")
def _probe_sweep(request: pytest.FixtureRequest) -> Iterator[Measured | None]:
    """Measure one sweep: every selected tap of one model on one dataset; None for one that is withheld."""
    config, sweep = request.config, request.param
    if sweep is None:
        yield None
        return
    taps = sorted({case.tap for item in request.session.items if (case := _case(item)) and case.sweep == sweep})
    run = config.stash[_run]
    withheld = _looked_at(config).withhold(sweep, len(taps))
    if withheld is not None:  # an earlier sweep found that there is no network
        config.stash[_withheld][sweep.id] = withheld
        yield None
        return
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or reporter.verbosity < 0:
        yield run.measure(sweep, taps)
        return
    from probebench.progress import bar

    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    reporter.ensure_newline()
    with capture.global_and_fixture_disabled(), bar(reporter._tw._file, sweep.id) as progress:
        measured = run.measure(sweep, taps, progress)
    yield measured


@pytest.fixture
def probe(request: pytest.FixtureRequest, _probe_sweep: Measured | None, _probe_case: Case | Withheld) -> Probe:
    """One case of the matrix that the test function's `probe` mark describes; call its `check()`."""
    config = request.config
    if _probe_sweep is not None and _probe_sweep.unreachable:
        _note_unreachable(config, request.session, _probe_sweep)
    withheld = _withheld_of(request.node) or config.stash[_withheld].get(_probe_case.sweep.id)
    if withheld is None:
        assert _probe_sweep is not None
        from probebench.fixture import Probe

        return Probe(request, config.stash[_run], _probe_sweep, cast("Case", _probe_case))
    reason = withheld.why or "not on this machine"
    if withheld.asked and config.stash[_options].strict:
        pytest.fail(f"{withheld.sweep.id} was asked for and could not be measured: {reason}", pytrace=False)
    pytest.skip(reason)


def _note_unreachable(config: pytest.Config, session: pytest.Session, measured: Measured) -> None:
    """A sweep should have been downloaded, and there is no network: tell it once, at the end."""
    sweep = measured.sweep
    if sweep.id not in config.stash[_withheld]:
        count = sum(1 for item in session.items if (case := _case(item)) and case.sweep == sweep)
        config.stash[_withheld][sweep.id] = _looked_at(config).unreachable(sweep, count)
        config.stash[_notes].append(f"WARNING: {measured.unreachable}")


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """A failed sweep is explained once; its other cases fail under a category of their own, without a section each."""
    if report.when == "call" and report.failed and UNMEASURED in report.user_properties:
        return "not measured", "n", ("NOT MEASURED", {"red": True})
    return None


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_benchmark_group_stats(config: pytest.Config) -> Generator[None, Any, Any]:
    """Leave cases out of pytest-benchmark's table, which has a row for each, unless somebody asks for it."""
    groups = yield
    if config.getoption("probe_benchmark_table") or config.getoption("benchmark_compare", None):
        return groups
    rest = [(name, [b for b in benchmarks if "probe" not in b["extra_info"]]) for name, benchmarks in groups]
    return [(name, benchmarks) for name, benchmarks in rest if benchmarks]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Save what was measured, also after an interruption; the terminal summary and the JUnit report come after this."""
    config = session.config
    run = config.stash.get(_run, None)
    if run is None:
        return
    empty = not any(measured.result or measured.error for measured in run.measured.values())
    if empty and run.options.json is None and not run.options.leaderboard_files and run.options.report is None:
        return
    from probebench import junit, results
    from probebench.run import relative

    notes = config.stash[_notes]
    interrupted = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
    from probebench.preflight import entries

    withheld = entries(config.stash[_withheld].values(), config.stash[_catalog])
    record = config.stash[_record] = run.record(interrupted, withheld)
    problems: list[str] = []
    if run.options.update is not None:
        if interrupted:
            notes.append("baselines: not updated, because the run was interrupted")
        else:
            written, problems = run.update_baselines()
            notes.append(f"baselines: {len(written)} files updated in {relative(run.options.baselines)}")
    problems += run.save_leaderboards(record)
    try:
        config.hook.pytest_probebench_record(config=config, record=record)
        results.to_json(record)
    except Exception as error:
        # Somebody else's code must not cost the measurement.
        problems.append(f"pytest_probebench_record failed, its additions are dropped ({type(error).__name__}: {error})")
        record = config.stash[_record] = run.record(interrupted, withheld)
    saved, warnings, unsaved = run.save_record(record)
    unreported = run.save_report(record, saved)
    problems += unsaved + unreported
    junit.add(config.pluginmanager.get_plugins(), junit.suite_properties(record, relative(saved) if saved else None))
    if saved is not None:
        notes.append(f"run record: {relative(saved)}" + (" (interrupted: what had finished)" if interrupted else ""))
    if run.options.report is not None and not unreported:
        notes.append(f"report: {relative(run.options.report)}")
    notes += run.cache_notes()
    notes += [f"WARNING: {warning}" for warning in warnings]
    stale = [] if run.options.prune else record["stale"]
    if stale:
        notes.append(
            f"stale: {len(stale)} baselines without a case, such as {stale[0]}. A run of all cases with --probe-prune "
            "removes them, and so does --probe-update=all of their sweep"
        )
    notes += [f"ERROR: {problem}" for problem in problems]
    failed = problems or (run.options.strict and stale)
    if failed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The leaderboards; first, because pytest-benchmark may raise in its own summary."""
    record, withheld = config.stash.get(_record, None), config.stash[_withheld]
    if record is not None and not record["cases"] and not record["failures"]:
        record = None
    if record is None and not withheld and not config.stash[_notes]:
        return
    writer, text = terminalreporter._tw, ""
    if record is not None:
        from probebench import leaderboard

        encoding = getattr(writer._file, "encoding", None) or "ascii"
        text = leaderboard.render(
            record,
            level=config.stash[_options].leaderboard,
            width=writer.fullwidth if terminalreporter.isatty else None,
            color=writer.hasmarkup,
            ascii_only=not encoding.lower().startswith("utf"),
        )
    notes = config.stash[_notes]
    if withheld:
        from probebench.preflight import summary

        notes += summary(withheld.values(), config.stash[_catalog])
    if config.get_verbosity() < -1:
        notes = [note for note in notes if note.startswith(("ERROR", "WARNING"))]
    if text or notes:
        terminalreporter.section("probebench", sep="=")
        if text:
            writer.write(text)
        for note in notes:
            terminalreporter.write_line(note, red=note.startswith("ERROR"), yellow=note.startswith("WARNING"))
    if record is not None:
        _tell_github(terminalreporter, config, record)


def _tell_github(terminalreporter: Any, config: pytest.Config, record: dict[str, Any]) -> None:
    import os

    if os.environ.get("GITHUB_ACTIONS") != "true" or hasattr(config, "workerinput"):
        return
    from probebench import github

    run, notes = config.stash[_run], config.stash[_notes]
    complaints = run.complaints() + [
        f"was asked for and could not be measured: {name}: {withheld.why or 'not on this machine'}"
        for name, withheld in config.stash[_withheld].items()
        if withheld.asked and run.options.strict
    ]
    for line in github.report(record, complaints, notes, os.environ):
        terminalreporter.write_line(line)
