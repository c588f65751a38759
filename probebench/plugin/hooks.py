"""The pytest plugin: hooks and fixtures only.

Everything heavy is imported inside the hooks that need it, so that a pytest run without cases costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from probebench.errors import Note, ProbebenchError
from probebench.plugin.benchmark import Benchmarks
from probebench.plugin.child_process import check_forked
from probebench.plugin.collected import ends_after_collection
from probebench.plugin.ending import Ending
from probebench.plugin.gather import collect_items
from probebench.plugin.items import SWEEP, UNMEASURED, param_of, set_property, skipped_of
from probebench.plugin.local_engine import LocalEngine
from probebench.plugin.options import add_options
from probebench.plugin.parsing import parse_options
from probebench.plugin.session import SESSION, ProbeSession
from probebench.plugin.shard import Sharding, describe_splitting

if TYPE_CHECKING:
    from probebench.catalog.cases import Case
    from probebench.measure.availability import SkippedSweep
    from probebench.measure.outcome import SweepOutcome
    from probebench.plugin.engine import Engine
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
        "(names or lists; suites too) to make cases of, optionally only some layers and sites. Every case has this "
        'mark with its own values, so that -m \'probe(model="glyphvit", site="act")\' selects exactly.',
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse invalid options before any work: raising here ends the run with exit code 4."""
    config, plugins = session.config, session.config.pluginmanager
    try:
        options = parse_options(config)
        state = config.stash[SESSION] = ProbeSession(config, options)
        plugins.register(Ending(state))
        plugins.register(Benchmarks(config))
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
            state.sharding = Sharding(options.shard)
            plugins.register(state.sharding)
        if options.plan and options.prune:
            raise pytest.UsageError(
                "--probe-plan writes nothing, but --probe-prune removes baselines: leave out one of them"
            )
        if options.plan and (plugins.has_plugin("dsession") or _in_worker(config)):
            raise pytest.UsageError("--probe-plan runs in one process: leave out -n")
        state.engine = _make_engine(state)
    except ProbebenchError as error:
        raise pytest.UsageError(str(error)) from error


def _make_engine(state: ProbeSession) -> Engine:
    config, plugins = state.config, state.config.pluginmanager
    distributed = plugins.has_plugin("dsession")  # pytest-xdist is going to start workers
    if state.options.engine == "ray":
        if distributed or _in_worker(config):
            raise pytest.UsageError(
                "--probe-engine=ray measures in Ray tasks, but -n in worker processes: leave out one of them"
            )
        from probebench.measure.ray.engine import check_installed
        from probebench.plugin.ray_engine import RayPlugin

        check_installed()
        ray = RayPlugin(state)
        plugins.register(ray)
        return ray
    if distributed:
        from probebench.plugin.xdist.controller import Controller

        controller = Controller(state)
        plugins.register(controller)
        return controller
    if _in_worker(config):
        from probebench.plugin.xdist.worker import make_worker

        state.worker = make_worker(state)
        return state.worker
    return LocalEngine(state)


def _in_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    state, takes = metafunc.config.stash[SESSION], SWEEP in metafunc.fixturenames
    for node in metafunc.definition.listchain():  # the function, its class, its module
        # Another project may have a mark of the same name.
        if any(mark.name == "probe" and {"model", "dataset"} & mark.kwargs.keys() for mark in node.own_markers):
            state.marked[node.nodeid] = takes or state.marked.get(node.nodeid, False)
    if takes:
        from probebench.plugin.collection import parametrize

        parametrize(metafunc, state)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash[SESSION]
    options = state.options
    state.errors += [
        f"{nodeid}: has a probe mark, but neither it nor a test in it takes the fixture `probe`, so that nothing would "
        "be measured: take it as an argument of a test function, and call `probe.check()`"
        for nodeid, taken in state.marked.items()
        if not taken
    ]
    if (options.models or options.datasets or options.layers) and not ends_after_collection(session):
        state.check_names()
    errors = state.errors
    if errors and state.worker is None:  # a worker that ends here would be replaced: see pytest_collection_finish
        raise pytest.UsageError("\n".join(errors))
    # A function of which the selection leaves no case is deselected, not skipped.
    empty = [item for item in items if SWEEP in getattr(item, "fixturenames", ()) and param_of(item) is None]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]
    if (empty or state.sweeps) and not errors and not ends_after_collection(session):
        state.note_unmatched()


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    state = config.stash[SESSION]
    if not state.collected.items or state.worker is not None:
        return []
    from probebench.plugin import terminal

    return terminal.header(state)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the run; before the first lines of the report, and before a worker reports that it has collected."""
    config = session.config
    state = config.stash[SESSION]
    problem = "\n".join(state.errors)
    try:
        state.collected = collected = collect_items(state, session.items, incomplete=ends_after_collection(session))
        if not collected.items and state.sweeps and config.option.markexpr:
            from probebench.plugin.expressions import find_unmatched

            deepest = max(state.catalog.model(sweep.model).depth for sweep in state.sweeps)
            state.notes += [
                Note("info", text) for text in find_unmatched(config.option.markexpr, state.sweeps, deepest)
            ]
        if collected.cases and (splitting := describe_splitting(config)):
            state.notes.append(Note("warning", splitting))
        if not problem:
            check_forked(config, session.items)
            state.check_collected(collected)
        if not problem and config.option.collectonly:
            state.skipped = {each.skipped.sweep: each.skipped for each in collected.withheld}
        elif not problem:
            state.begin(collected)
    except ProbebenchError as error:
        problem = str(error)
    if state.worker is not None:
        state.worker.announce(problem)
    elif problem:
        raise pytest.UsageError(problem)


@pytest.fixture(scope="session")
def _probe_sweep(request: pytest.FixtureRequest) -> SweepOutcome | SkippedSweep | None:
    """Measure one sweep, every selected tap of a model on a dataset; None for one that was skipped in collection."""
    return None if request.param is None else request.config.stash[SESSION].measure(request.param)


@pytest.fixture
def probe(
    request: pytest.FixtureRequest,
    _probe_sweep: SweepOutcome | SkippedSweep | None,
    _probe_case: Case | SkippedSweep,
) -> Probe:
    """One case of the matrix that the test function's `probe` mark describes; call its `check()`."""
    from probebench.measure.outcome import SweepOutcome

    if isinstance(_probe_sweep, SweepOutcome):
        from probebench.plugin.fixture import Probe

        return Probe(request, _probe_sweep, cast("Case", _probe_case))
    skipped = skipped_of(request.node) or cast("SkippedSweep", _probe_sweep)
    state = request.config.stash[SESSION]
    reason, name, first = skipped.reason or "not on this machine", skipped.sweep.id, state.collected.first_items
    if not (skipped.named and state.options.strict):
        pytest.skip(reason)
    if request.node.nodeid != first[skipped.sweep]:
        set_property(request.node, UNMEASURED)
        pytest.fail(f"not measured: the sweep is skipped, see {first[skipped.sweep]}", pytrace=False)
    pytest.fail(f"{name} was requested but could not be measured: {reason}", pytrace=False)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Explain a failed sweep once: its other cases fail under their own category, without a section."""
    # pytest also calls this for what it could not collect, and such a report has no properties.
    if report.when in ("setup", "call") and report.failed and UNMEASURED in report.user_properties:
        return "not measured", "n", ("NOT MEASURED", {"red": True})
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --probe-plan, print the plan and run no test."""
    state = session.config.stash[SESSION]
    if not state.options.plan or session.config.option.collectonly or ends_after_collection(session):
        return None
    from probebench.reporting.terminal.plan import lines

    table, unplanned = lines(state.collected.cases, state.catalog, state.options)
    state.notes += [Note("info", line) for line in table]
    session.testsfailed += unplanned  # ends pytest with exit code 1
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a run whose models are all elsewhere pass, as one of tests that are all skipped does."""
    if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.stash[SESSION].collected.withheld:
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(config: pytest.Config) -> None:
    """Print the leaderboards; first, because pytest-benchmark may raise an exception in its own summary."""
    _print_summary(config)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the leaderboards if pytest has not: what another plugin raises when a session ends keeps it from that."""
    _print_summary(config)


def _print_summary(config: pytest.Config) -> None:
    state = config.stash.get(SESSION, None)
    if state is None or state.worker is not None or state.summarized:
        return
    state.summarized = True
    if state.record or state.skipped or state.notes:
        from probebench.plugin import terminal
        from probebench.plugin.reporter import find_reporter

        if (reporter := find_reporter(config)) is not None:
            terminal.summary(reporter, state)
