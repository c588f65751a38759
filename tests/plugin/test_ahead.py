"""The features of the next sweep are read while probes are fitted, where there is a device to do it."""

from __future__ import annotations

import threading

import pytest

from probebench.records import run_record
from tests.conftest import TINY_COUNT
from tests.plugin.xdist.test_workers import add_to_conftest, timeless

# As if the processor were a device beside itself; writes down what begins before its turn, and what is made of it.
WORTHWHILE = """
import pathlib, pytest

@pytest.fixture(autouse=True, scope="session")
def reading_ahead(request):
    import probebench.measure.run as run
    begin, finish, monkeypatch, root = run.begin_sweep, run.run_sweep, pytest.MonkeyPatch(), request.config.rootpath

    def note(text):
        with (root / "noted").open("a") as file:
            file.write(text + chr(10))

    def begin_sweep(ready, **more):
        found = begin(ready, **more)
        note(f"begun {ready.model.spec.name}-{ready.dataset.name} {found is not None}")
        return found

    def run_sweep(model, dataset, begun=None, **more):
        note(f"run {model.name}-{dataset.name} {begun is not None}")
        return finish(model, dataset, begun=begun, **more)

    monkeypatch.setattr(run.ahead, "worthwhile", lambda device, protocol: True)
    monkeypatch.setattr(run, "begin_sweep", begin_sweep)
    monkeypatch.setattr(run, "run_sweep", run_sweep)
    yield
    monkeypatch.undo()
"""
SWEEPS = ["tiny-blobs", "tiny-blobs_dark", "tiny_other-blobs", "tiny_other-blobs_dark"]


def noted(project):
    path = project.path / "noted"
    found = sorted(path.read_text().splitlines())
    path.unlink()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
    return found


def test_every_sweep_but_the_first_begins_before_its_turn_and_says_the_same(project, run):
    run("--probe-json=plain.json").assert_outcomes(passed=TINY_COUNT)
    add_to_conftest(project, WORTHWHILE)
    run("--probe-json=ahead.json").assert_outcomes(passed=TINY_COUNT)
    assert noted(project) == [
        *(f"begun {sweep} True" for sweep in SWEEPS[1:]),
        *(f"run {sweep} {sweep != SWEEPS[0]}" for sweep in SWEEPS),
    ]
    plain, ahead = (run_record.load(project.path / name) for name in ("plain.json", "ahead.json"))
    assert timeless(plain) == timeless(ahead)
    assert plain["correct"]["sha256"] == ahead["correct"]["sha256"]


def test_a_processor_reads_nothing_ahead(project, run):
    add_to_conftest(project, WORTHWHILE.replace('    monkeypatch.setattr(run.ahead, "worthwhile"', '    ("no"'))
    run("--probe-site=final")
    assert noted(project) == [f"run {sweep} False" for sweep in SWEEPS]


def test_memory_for_one_sweep_is_not_taken_by_two(project, run):
    add_to_conftest(project, WORTHWHILE)
    run("--probe-memory=20MB", "--probe-json=r.json").assert_outcomes(passed=TINY_COUNT)
    assert noted(project) == [f"run {sweep} False" for sweep in SWEEPS]


def test_a_sweep_that_cannot_begin_is_explained_in_its_turn(project, run):
    add_to_conftest(project, WORTHWHILE)
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset=["blobs", "no_class_two", "blobs_dark"], site="final")
        def test_probe(probe):
            probe.check()
        """
    )
    result = run()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["DataError: dataset 'no_class_two': no training image*"])
    assert "run tiny-no_class_two False" in noted(project)


def test_a_fit_that_runs_out_of_memory_beside_another_sweep_is_made_alone(project, run):
    add_to_conftest(project, WORTHWHILE)
    add_to_conftest(
        project,
        """
@pytest.fixture(autouse=True, scope="session")
def full(request, reading_ahead):
    import torch
    import probebench.measure.prefetch, probebench.measure.sweep as sweep
    probe_taps, times, monkeypatch = sweep.probe_taps, [], pytest.MonkeyPatch()

    def full_once(*args, **kwargs):
        times.append(1)
        if len(times) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return probe_taps(*args, **kwargs)

    monkeypatch.setattr(sweep, "probe_taps", full_once)
    monkeypatch.setattr(probebench.measure.prefetch.Ahead, "busy", True)
    yield
    monkeypatch.undo()
""",
    )
    run("--probe-site=final").assert_outcomes(passed=4)
    found = noted(project)
    assert found.count("run tiny-blobs False") == 2
    assert found.count("run tiny-blobs_dark False") == 1


@pytest.mark.parametrize("where", ["fit", "extraction"])
def test_a_sweep_that_runs_out_of_memory_beside_features_on_the_device_is_measured_without_them(project, run, where):
    add_to_conftest(
        project,
        """
import pytest

@pytest.fixture(autouse=True, scope="session")
def full():
    import torch
    import probebench.measure.prepare, probebench.measure.sweep as sweep
    from probebench import forward
    from probebench.features.cache import extraction
    from probebench._arrays import allocate
    probe_taps, monkeypatch = sweep.probe_taps, pytest.MonkeyPatch()

    def full(seen, *args, **kwargs):
        if any(isinstance(values, torch.Tensor) for values in seen.values()):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return probe_taps(seen, *args, **kwargs)

    def no_room(widths, n, device=None):
        if device is not None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return allocate(widths, n)

    if WHERE == "fit":
        monkeypatch.setattr(sweep, "probe_taps", full)
    else:
        monkeypatch.setattr(extraction, "allocate", no_room)
        monkeypatch.setattr(forward, "allocate", no_room)
    monkeypatch.setattr(probebench.measure.prepare, "_usable_on_gpu", lambda device: 10**9)
    yield
    monkeypatch.undo()
""".replace("WHERE", repr(where)),
    )
    run("--probe-site=final", "--probe-json=r.json").assert_outcomes(passed=4)
    record = run_record.load(project.path / "r.json")
    assert [sweep["plan"]["mode"] for sweep in record["sweeps"]] == ["memory"] * 4


def test_ctrl_c_stops_what_is_read_ahead(project):
    add_to_conftest(project, WORTHWHILE)
    add_to_conftest(
        project,
        """
@pytest.fixture(autouse=True, scope="session")
def stop(request, reading_ahead):
    import probebench.measure.sweep as sweep
    monkeypatch = pytest.MonkeyPatch()

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "probe_taps", stopped)
    yield
    monkeypatch.undo()
""",
    )
    result = project.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "run tiny-blobs False" in noted(project)
