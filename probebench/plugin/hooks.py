"""The pytest plugin: hooks and fixtures only.

Everything heavy is imported inside the hooks that need it, so that a pytest run without cases costs nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import pytest

from probebench.plugin.items import SWEEP, UNMEASURED, case_of, cases_of, param_of, withheld_of
from probebench.plugin.options import add_options, parse_options
from probebench.plugin.session import STATE, ProbeSession

if TYPE_CHECKING:
    from probebench.catalog.cases import Case
    from probebench.measure.availability import SkippedSweep
    from probebench.measure.outcome import SweepOutcome
    from probebench.plugin.fixture import Probe


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from probebench.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "probe(model, dataset, layer, site): on a test function that uses the `probe` fixture, the models and datasets "
        "(names or lists; suites too) to make cases of, optionally only some layers and sites. Every case carries it "
        'with its own values, so -m \'probe(model="glyphvit", site="act")\' selects exactly.',
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse bad options before any work: raising here ends the run with exit code 4."""
    from probebench.errors import ProbebenchError

    config, plugins = session.config, session.config.pluginmanager
    try:
        options = parse_options(config)
        state = config.stash[STATE] = ProbeSession(config, options)
        plugins.register(state.stopped)
        if options.models or options.datasets or options.layers or options.sites or options.weights:
            state.prepare()
        if config.getoption("probe_protocol") is not None:
            from probebench.catalog.protocols import get_protocol

            get_protocol(options.protocol)
        if options.prune:
            from probebench.plugin.prune import Pruning, check_unfiltered

            check_unfiltered(config)
            state.pruning = Pruning(options, state.notes)
            plugins.register(state.pruning)
        if options.shard is not None:
            from probebench.plugin.shard import Sharding

            state.sharding = Sharding(options.shard)
            plugins.register(state.sharding)
        if options.engine == "ray":
            from probebench.measure.ray.engine import RayEngine, check_installed

            if plugins.has_plugin("dsession") or _in_worker(config):
                raise pytest.UsageError("--probe-engine=ray measures in tasks of Ray, and -n in workers: leave out one")
            check_installed()
            state.engine = RayEngine(state)
            plugins.register(state.engine)
    except ProbebenchError as error:
        raise pytest.UsageError(str(error)) from error
    if options.plan and options.prune:
        raise pytest.UsageError("--probe-plan changes nothing, and --probe-prune removes baselines: leave out one")
    if options.plan and (plugins.has_plugin("dsession") or _in_worker(config)):
        raise pytest.UsageError("--probe-plan plans in one process: leave -n out")
    if plugins.has_plugin("dsession"):  # pytest-xdist is there, and is going to start workers
        from probebench.plugin.xdist.controller import Controller

        state.controller = Controller(state)
        plugins.register(state.controller)
    elif _in_worker(config):
        from probebench.plugin.xdist.worker import Worker

        state.worker = Worker.of(config)


def _in_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    state, takes = metafunc.config.stash[STATE], SWEEP in metafunc.fixturenames
    for node in metafunc.definition.listchain():  # the function, its class, its module
        # Not a mark of another project that has the same name.
        if any(mark.name == "probe" and {"model", "dataset"} & mark.kwargs.keys() for mark in node.own_markers):
            state.marked[node.nodeid] = takes or state.marked.get(node.nodeid, False)
    if takes:
        from probebench.plugin.collection import parametrize

        parametrize(metafunc, state)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash[STATE]
    options = state.options
    state.errors += [
        f"{nodeid}: has a probe mark and does not take the fixture `probe`, nor does a test in it, so that nothing "
        "would be measured: take it as an argument of a test function, and call `probe.check()`"
        for nodeid, taken in state.marked.items()
        if not taken
    ]
    if (options.models or options.datasets or options.layers) and not _ends_here(session):
        state.check_names()
    errors = state.errors
    if errors and not _in_worker(config):  # a worker that ends here would be replaced: see pytest_collection_finish
        raise pytest.UsageError("\n".join(errors))
    # A function of which the selection leaves no case is deselected, not skipped.
    empty = [item for item in items if SWEEP in getattr(item, "fixturenames", ()) and param_of(item) is None]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]
        if not any(param_of(item) is not None for item in items):
            note = "no test has a case: its mark names none, or has `timm:*` for what --probe-model=timm:NAME names"
            if selected := state.options.selected:
                mark = "`@pytest.mark.probe(model=..., dataset=...)`"
                note = f"no test has a case of {selected}: {mark} in a test file joins a model and a dataset"
            state.notes.append(note)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    cases = cases_of(items)
    if not cases or _in_worker(config):
        return []
    from probebench.plugin import terminal

    return terminal.header(config.stash[STATE], cases)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Before the first lines of the report, and before a worker says that it has collected."""
    config, items = session.config, session.items
    state = config.stash[STATE]
    cases = cases_of(items)
    withheld = [each for item in items if (each := withheld_of(item)) is not None]
    for item in items:
        if (param := param_of(item)) is not None:
            state.first.setdefault(param.sweep.id, item.nodeid)
    if not cases and not withheld and state.sweeps and config.option.markexpr:
        from probebench.plugin.expressions import unmatched

        deepest = max(state.catalog.model(sweep.model).depth for sweep in state.sweeps)
        state.notes += unmatched(config.option.markexpr, state.sweeps, deepest)
    state.family = len(cases) if state.sharding is None else state.sharding.cases
    from probebench.errors import ProbebenchError

    if config.option.collectonly:
        try:
            if state.options.weights and not _ends_here(session):
                state.check_weights()
            if cases or withheld:
                state.preflight.check_licences()
        except ProbebenchError as error:
            raise pytest.UsageError(str(error)) from error
        return
    if cases:
        from probebench.plugin import unused_baselines

        files = dict.fromkeys(item.path for item in items if case_of(item) is not None)
        state.overlooked = unused_baselines.find(state.options, files)
    problem = "\n".join(state.errors)
    try:
        if not problem and state.options.weights and not _ends_here(session):
            state.check_weights()
        if state.pruning is not None and not _in_worker(config) and not _ends_here(session):
            state.pruning.begin(cases, withheld)
        if not problem:
            state.begin(cases, withheld)
    except ProbebenchError as error:
        problem = str(error)
    if state.worker is not None:
        state.worker.announce(state, items, problem)
    elif problem:
        raise pytest.UsageError(problem)


def _ends_here(session: pytest.Session) -> bool:
    """Whether pytest is about to end the session because something could not be collected."""
    return bool(session.testsfailed) and not session.config.option.continue_on_collection_errors


@pytest.fixture(scope="session")
def _probe_sweep(request: pytest.FixtureRequest) -> Iterator[SweepOutcome | None]:
    """Measure one sweep: every selected tap of one model on one dataset; None for one that is withheld."""
    config, sweep = request.config, request.param
    state = config.stash[STATE]
    if sweep is None or (_in_worker(config) and state.worker is None):
        yield None
        return
    if state.engine is not None:
        yield state.engine.outcome(sweep)
        return
    taps = sorted({case.tap for case in cases_of(request.session.items) if case.sweep == sweep})
    withheld = state.preflight.withhold(sweep, len(taps))
    if withheld is not None:  # an earlier sweep found that there is no network
        state.withhold(withheld)
        yield None
        return
    run = state.begun()
    if state.worker is not None:
        yield state.worker.measure(run, sweep, taps)
        return

    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or reporter.verbosity < 0:
        yield run.measure(sweep, taps)
        return
    from probebench.reporting.terminal.progress import bar

    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    reporter.ensure_newline()
    uncaptured = nullcontext() if capture is None else capture.global_and_fixture_disabled()  # -p no:capture
    with uncaptured, bar(reporter._tw._file, sweep.id) as progress:
        outcome = run.measure(sweep, taps, progress)
    yield outcome


@pytest.fixture
def probe(request: pytest.FixtureRequest, _probe_sweep: SweepOutcome | None, _probe_case: Case | SkippedSweep) -> Probe:
    """One case of the matrix that the test function's `probe` mark describes; call its `check()`."""
    config, state = request.config, request.config.stash[STATE]
    if _in_worker(config) and state.worker is None:
        from probebench.plugin.xdist.controller import ELSEWHERE

        pytest.fail(ELSEWHERE, pytrace=False)
    if _probe_sweep is not None and _probe_sweep.unreachable:
        _note_unreachable(state, request.session, _probe_sweep)
    withheld = withheld_of(request.node) or state.withheld.get(_probe_case.sweep.id)
    if withheld is None:
        assert _probe_sweep is not None
        from probebench.plugin.fixture import Probe

        return Probe(request, _probe_sweep, cast("Case", _probe_case))
    reason, name = withheld.why or "not on this machine", withheld.sweep.id
    if not (withheld.asked and state.options.strict):
        pytest.skip(reason)
    if request.node.nodeid != state.first[name]:
        request.node.user_properties.append(UNMEASURED)
        pytest.fail(f"not measured: the sweep is withheld, see {state.first[name]}", pytrace=False)
    pytest.fail(f"{name} was asked for and could not be measured: {reason}", pytrace=False)


def _note_unreachable(state: ProbeSession, session: pytest.Session, outcome: SweepOutcome) -> None:
    """A sweep should have been downloaded, and there is no network: tell it once, at the end."""
    sweep = outcome.sweep
    if sweep.id not in state.withheld:
        count = sum(1 for item in session.items if (case := case_of(item)) and case.sweep == sweep)
        state.withhold(state.preflight.unreachable(sweep, count))
        warning = f"WARNING: {outcome.unreachable}"
        if warning not in state.notes:
            state.notes.append(warning)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Why a sweep has no results is told once; its other cases fail under their own category, without a section."""
    # pytest asks this of what it could not collect, too, and that has no properties.
    if report.when in ("setup", "call") and report.failed and UNMEASURED in report.user_properties:
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
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Nothing is run where only the plan was asked for."""
    state = session.config.stash[STATE]
    if not state.options.plan or session.config.option.collectonly or _ends_here(session):
        return None
    from probebench.reporting.terminal.plan import lines

    cases = cases_of(session.items)
    told, unplanned = lines(cases, state.catalog, state.options)
    state.notes += told
    session.testsfailed += unplanned  # what ends pytest with exit code 1
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Save what was measured, also after an interruption; the terminal summary and the JUnit report come after this."""
    state = session.config.stash[STATE]
    if state.run is None:
        return
    if state.worker is not None:
        state.worker.finish(state.run)
        return
    interrupted = state.stopped.told or exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
    if state.controller is not None:
        interrupted = state.controller.gather(state.run, interrupted)
    if state.engine is not None:
        state.engine.gather(state.run)
    from probebench.plugin import finish

    finish.finish(session, state, state.run, interrupted)


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The leaderboards; first, because pytest-benchmark may raise in its own summary."""
    state = config.stash[STATE]
    if not _in_worker(config) and (state.record or state.withheld or state.notes):
        from probebench.plugin import terminal

        terminal.summary(terminalreporter, state)
