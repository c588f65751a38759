"""Controls: the part of a tap's gain that a random network and equal width leave."""

from __future__ import annotations

from dataclasses import dataclass

from probebench.records.view import RecordView, SweepView
from probebench.reporting.html.numbers import DASH


@dataclass(frozen=True)
class Control:
    """The chosen tap of one sweep and its controls, as text; empty for those that the record does not have.

    Attributes:
        gain: of the tap over the model's ``output``
        random, random_interval: accuracy of the same tap in the random control
        random_gain: its gain over the control's own ``output``
        ahead: the lead of the tap over the same tap of the random control
        width: of the tap
        matched_width, matched, matched_interval: of the probe at equal width, its features, accuracy and interval
        matched_gain: its gain over the model's ``output`` at equal width
        narrow: whether the tap is no wider than the residual stream, so that its own accuracy counts
    """

    sweep: SweepView
    tap: str
    accuracy: str
    gain: str
    random: str
    random_interval: str
    random_gain: str
    ahead: str
    width: int
    matched_width: str
    matched: str
    matched_interval: str
    matched_gain: str
    narrow: bool


def controls(contents: RecordView) -> list[Control]:
    """One for each sweep of a model that has a control of either kind in the record."""
    found = [_control(contents, s) for sweeps in contents.datasets.values() for s in sweeps if s.control_of is None]
    return [each for each in found if each.random or each.matched or each.narrow]


def _control(contents: RecordView, sweep: SweepView) -> Control:
    chosen, task = sweep.chosen, sweep.task
    control = contents.control(sweep.model, sweep.dataset)
    same = control.rows.get(chosen.tap) if control else None
    matched = chosen.case.get("width_matched")
    measured = any(row.case.get("width_matched") is not None for row in sweep.rows.values())
    return Control(
        sweep=sweep,
        tap=chosen.tap.id,
        accuracy=task.number(chosen.case["accuracy"]),
        gain=task.change(chosen.gain_output),
        random=task.number(same.case["accuracy"]) if same else "",
        random_interval=task.interval(same.case["ci95"], DASH) if same else "",
        random_gain=task.change(same.gain_output) if same else "",
        ahead=task.change(chosen.case["accuracy"] - same.case["accuracy"]) if same else "",
        width=chosen.case["width"],
        matched_width=str(matched["width"]) if matched else "",
        matched=task.number(matched["accuracy"]) if matched else "",
        matched_interval=task.interval(matched["ci95"], DASH) if matched else "",
        matched_gain=task.change(chosen.gain_equal_width) if matched else "",
        narrow=measured and matched is None,
    )
