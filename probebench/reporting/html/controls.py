"""Controls: the part of a tap's gain that a random network and equal width leave."""

from __future__ import annotations

from dataclasses import dataclass

from probebench._format import percent, signed
from probebench.records.view import RecordView, SweepView
from probebench.reporting.html.numbers import interval


@dataclass(frozen=True)
class Control:
    """The chosen tap of one sweep and its controls, as text; empty for those that the record does not have.

    Attributes:
        gain: of the tap over the model's ``final``, in points
        random, random_interval: accuracy of the same tap in the random control
        random_gain: its gain over the control's own ``final``
        ahead: the lead of the tap over the same tap of the random control, in points
        width: of the tap
        matched_width, matched, matched_interval: of the probe at equal width, its features, accuracy and interval
        matched_gain: its gain over the model's ``final``
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
    chosen, final = sweep.chosen, sweep.final
    control = contents.control(sweep.model, sweep.dataset)
    same = control.rows.get(chosen.tap) if control else None
    matched = chosen.case.get("width_matched")
    measured = any(row.case.get("width_matched") is not None for row in sweep.rows.values())
    return Control(
        sweep=sweep,
        tap=chosen.tap.id,
        accuracy=percent(chosen.case["accuracy"]),
        gain=signed(chosen.gain_final),
        random=percent(same.case["accuracy"]) if same else "",
        random_interval=interval(same.case["ci95"]) if same else "",
        random_gain=signed(same.gain_final) if same else "",
        ahead=signed(chosen.case["accuracy"] - same.case["accuracy"]) if same else "",
        width=chosen.case["width"],
        matched_width=str(matched["width"]) if matched else "",
        matched=percent(matched["accuracy"]) if matched else "",
        matched_interval=interval(matched["ci95"]) if matched else "",
        matched_gain=signed(matched["accuracy"] - final.case["accuracy"]) if matched and final else "",
        narrow=measured and matched is None,
    )
