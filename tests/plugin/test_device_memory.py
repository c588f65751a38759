"""A sweep that runs out of memory while its features stay on the device is measured again with them on the host."""

from __future__ import annotations

import pytest

from probebench.records import run_record
from tests.plugin.xdist.test_workers import add_to_conftest

FULL_DEVICE = """
import pytest

@pytest.fixture(autouse=True, scope="session")
def full():
    import torch
    import probebench.measure.prepare, probebench.measure.probe as stage
    from probebench.features import extraction, forward
    from probebench._arrays import allocate
    probe_taps, monkeypatch = stage.probe_taps, pytest.MonkeyPatch()

    def full(seen, *args, **kwargs):
        if any(isinstance(values, torch.Tensor) for values in seen.values()):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return probe_taps(seen, *args, **kwargs)

    def no_room(widths, n, device=None):
        if device is not None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return allocate(widths, n)

    if WHERE == "fit":
        monkeypatch.setattr(stage, "probe_taps", full)
    else:
        monkeypatch.setattr(extraction, "allocate", no_room)
        monkeypatch.setattr(forward, "allocate", no_room)
    monkeypatch.setattr(probebench.measure.prepare, "_usable_on_gpu", lambda device: 10**9)
    yield
    monkeypatch.undo()
"""


@pytest.mark.parametrize("where", ["fit", "extraction"])
def test_a_sweep_that_runs_out_of_memory_on_the_device_is_measured_with_features_on_the_host(project, run, where):
    add_to_conftest(project, FULL_DEVICE.replace("WHERE", repr(where)))
    run("--probe-site=final", "--probe-json=r.json").assert_outcomes(passed=4)
    record = run_record.load(project.path / "r.json")
    assert [sweep["plan"]["mode"] for sweep in record["sweeps"]] == ["memory"] * 4


def test_other_errors_on_the_device_fail_the_sweep(project, run):
    broken = 'RuntimeError("shapes cannot be multiplied")'
    text = FULL_DEVICE.replace("WHERE", repr("fit")).replace(
        'torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")', broken
    )
    add_to_conftest(project, text)
    result = run("--probe-site=final", "--probe-model=tiny", "--probe-dataset=blobs")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["RuntimeError: shapes cannot be multiplied"])
