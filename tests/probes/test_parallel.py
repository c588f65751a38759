"""Where parts of a fit are done."""

from __future__ import annotations

import os

import numpy as np
import pytest

from probebench.catalog.taps import Tap
from probebench.probes.parallel import run_on_cores

PARTS = [({Tap(layer, "act"): np.zeros((2, 3))}, {}) for layer in (1, 2, 3)]


def process_of(train, test):
    return [(tap, os.getpid()) for tap in train]


@pytest.mark.parametrize(("parts", "jobs"), [(PARTS, 1), (PARTS[:1], 2), ([], 2)], ids=["one job", "one part", "none"])
def test_what_one_core_does_is_done_in_this_process(parts, jobs):
    found = [pair for results in run_on_cores(process_of, iter(parts), jobs, "cpu") for pair in results]
    assert found == [(tap, os.getpid()) for train, _ in parts for tap in train]


def test_several_parts_are_sent_to_other_processes():
    found = dict(pair for results in run_on_cores(process_of, iter(PARTS), 2, "cpu") for pair in results)
    assert found.keys() == {tap for train, _ in PARTS for tap in train}
    assert os.getpid() not in found.values()
