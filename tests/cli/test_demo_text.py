"""The sentences of `probebench demo` follow from the numbers, whichever way these fall."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from probebench import DatasetSpec, ModelSpec, SweepResult, Tap, TapResult
from probebench.catalog import get_protocol
from probebench.catalog.taps import SITES
from probebench.cli.demo_text import render, sentences
from probebench.metrics import Metrics, proportion
from probebench.probes.evaluate import WidthMatched

N = 200
NET = ModelSpec("net", "VisionTransformer", 2, "random", 16, (0.5,) * 3, (0.5,) * 3, seed=0)
DATASET = DatasetSpec("shapes", "m:f", shift="strong", note="circles and squares")

# Right test images and held-out accuracy of each tap. `act` is four times as wide as the others.
LEARNED = {
    "L01-act": (180, 0.9),
    "L01-rc2": (150, 0.7),
    "L02-act": (140, 0.6),
    "L02-rc2": (160, 0.8),
    "final": (130, 0.5),
    "output": (120, 0.5),
}


def measured(tap: str, right: int, held_out: float, matched: int) -> TapResult:
    correct = np.arange(N) < right
    score = proportion(correct)
    wide = tap.endswith("act")
    return TapResult(
        Tap.parse(tap),
        256 if wide else 64,
        Metrics(score, None, score, None, None),
        correct,
        seconds=0.1,
        iterations=1,
        C=1.0,
        gap=None,
        held_out_accuracy=held_out,
        width_matched=WidthMatched(64, proportion(np.arange(N) < matched)) if wide else None,
    )


def result(matched: int = 170, **changes: tuple[int, float]) -> SweepResult:
    taps = LEARNED | {name.replace("_", "-"): change for name, change in changes.items()}
    found = SweepResult(NET, DATASET, get_protocol("default@2"), "shapes", "", "", 100, N, 0, 0.0, "cpu")
    found.taps = {Tap.parse(tap): measured(tap, *score, matched) for tap, score in taps.items()}
    return found


def test_the_three_sentences_have_the_measured_numbers():
    depth, site, limits = sentences(result())
    assert depth == (
        "Depth: held-out training images choose L01-act, in layer 1 of 2. There 90.0% (85.1-93.4) of the "
        "test images are right, and 60.0% (53.1-66.5) at output, what the network returns: a gain of "
        "+30.0 points (+23.3 to +36.1)."
    )
    assert site == (
        "Site: of 2 sites, act wins, at L01-act. The best output of a block, L02-rc2, has 80.0% ("
        "73.9-85.0): a gain of +10.0 points (+5.7 to +14.1). Width is a part of it: L01-act has 256 "
        "features and L02-rc2 64; projected to 64, +5.0 of the +10.0 points are left."
    )
    assert "one small network (2 layers of 64 features) on one dataset. There was no random control" in limits


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # output is chosen, and no place is better
        ({"output": (190, 0.95)}, "Depth: no place inside the network beats output"),
        # the tokens behind it are a place, too
        ({"final": (190, 0.95)}, r"images choose final\. There 95.0%"),
        # the test images cannot tell, or contradict the held-out ones
        ({"output": (179, 0.5)}, r"returns: \+0.5 points \(-0.9 to \+1.9\), which may be chance"),
        ({"output": (199, 0.5)}, r"returns: a loss of -9.5 points"),
        # the input of the first layer is a place, too
        ({"embed": (199, 0.99)}, r"images choose embed\. There 99.5%"),
        ({"L02_rc2": (160, 0.95)}, r"Site: of 2 sites, rc2, the output of a block, wins, at L02-rc2: 80.0%"),
        ({"matched": 180}, "Width is no part of it: .* 64, \\+10.0 of the \\+10.0 points are left"),
        ({"matched": 150}, "Width is all of it: .* 64, -5.0 of the \\+10.0 points are left"),
        ({"L01_act": (150, 0.9)}, "a loss of -5.0 points .* Width did not help: "),
        ({"L01_ln2": (180, 0.95)}, r"ln2 wins, at L01-ln2\. .* Both have 64 features, so width is no part of it"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(*value),
)
def test_other_numbers_make_other_sentences(changes, expected):
    assert any(re.search(expected, text) for text in sentences(result(**changes)))


def test_layers_that_were_left_out_are_counted():
    found = result()
    deeper = replace(found, model=replace(NET, depth=12))
    assert "(12 layers of 64 features) on one dataset, at 2 of its 12 layers." in sentences(deeper)[2]


@pytest.mark.parametrize("color", [False, True])
def test_nothing_is_wider_than_a_narrow_terminal_and_no_number_is_cut(color):
    found = result()
    for site in ("ln1", "mha", "rc1", "ln2", "fc1", "fc2"):
        tap = f"L01-{site}"
        found.taps[Tap.parse(tap)] = measured(tap, N, 0.1, 0)
    text = re.sub(r"\x1b\[[0-9;]*m", "", render(found, width=40, color=color, ascii_only=True))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 40
    assert text.isascii()
    rows = [line.split() for line in lines]
    cells = rows[rows.index(list(SITES)) + 1]
    assert cells == ["L01", *(str(n) for n in (100, 100, 100, 100, 100, 90, 100, 75))]
    assert lines[:2] == ["net on shapes, strongly shifted", "dataset: circles and squares"]
    assert "  probebench init DIR" in [line.rstrip() for line in lines]


def test_colours_are_for_terminals():
    assert "\x1b[" not in render(result(), width=None, color=False, ascii_only=False)
    assert "\x1b[" in render(result(), width=80, color=True, ascii_only=False)
