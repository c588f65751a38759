"""A comparison as text: its table and the line that sums it up."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from probebench._format import counted
from probebench.records.compare import Comparison, Pair
from probebench.reporting.terminal.console import render_text, verdict_text

SHOWN = 20  # rows of a comparison, unless more moved or --all is given


def render(
    comparison: Comparison, names: tuple[str, str], *, every: bool, width: int | None, color: bool, ascii_only: bool
) -> str:
    """The table, the largest drop first, and the summary.

    Args:
        names: of run A and run B
        every: show all rows; by default those that moved, and the largest of the other changes
        width, color, ascii_only: see `probebench.reporting.terminal.console.OutputStyle`
    """
    pairs, left = _shown(comparison.pairs, every)
    titles = list(names)
    if len(set(comparison.pairs[0].models)) > 1:  # two models, the same in all rows
        titles = [f"{model}, {name}" for model, name in zip(comparison.pairs[0].models, names, strict=True)]
    parts: list[RenderableType] = [Text(f"A: {titles[0]}\nB: {titles[1]}")]
    if pairs:
        parts.append(_table(pairs, ascii_only))
    if left:
        parts.append(Text(f"{left} more rows, none of which moved: --all shows them"))
    reasons = Counter(pair.judgement.reason for pair in comparison.pairs if pair.move is None)
    parts += [Text(f"{counted(count, 'case')} not comparable: {reason}") for reason, count in reasons.items()]
    if any(pair.move is not None and pair.move.lost is None for pair in comparison.pairs):
        parts.append(
            Text(
                "If lost and gained are empty, a record does not say which test images were right (it is old, or "
                "was printed and not saved). Those cases are tested unpaired, by Fisher's exact test, which is less "
                "sensitive."
            )
        )
    parts.append(Text(summary(comparison)))
    return render_text(parts, width=width, color=color, ascii_only=ascii_only)


def summary(comparison: Comparison) -> str:
    """One line: the number of cases of each verdict."""
    compared = [pair for pair in comparison.pairs if pair.move is not None]
    counts = Counter(pair.judgement.verdict for pair in compared)
    verdicts = ", ".join(f"{counts[v]} {v}" for v in ("regressed", "improved", "same") if counts[v])
    text = f"{counted(len(compared), 'case')} compared: {verdicts}"
    others = [(len(comparison.pairs) - len(compared), "not comparable")]
    others += [(comparison.only_a, "only in A"), (comparison.only_b, "only in B")]
    if more := ", ".join(f"{count} {what}" for count, what in others if count):
        text += f"; {more}"
    return text


def _shown(pairs: list[Pair], every: bool) -> tuple[list[Pair], int]:
    comparable = [pair for pair in pairs if pair.move is not None]
    if every:
        return comparable, 0
    # Pairs that moved or were chosen are always shown, then those that changed most.
    first = [pair for pair in comparable if pair.judgement.verdict != "same" or pair.chosen]
    rest = sorted((pair for pair in comparable if pair not in first), key=lambda pair: -abs(pair.change))
    keep = {id(pair) for pair in first + rest[: max(0, SHOWN - len(first))]}
    shown = [pair for pair in comparable if id(pair) in keep]
    return shown, len(comparable) - len(shown)


def _table(pairs: list[Pair], ascii_only: bool) -> Table:
    table = Table(box=box.ASCII if ascii_only else box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    # The names of two models are above the table.
    one_model = len(set(pairs[0].models)) == 1
    for name in ("dataset", "model") if one_model else ("dataset",):
        table.add_column(name, overflow="fold")
    table.add_column("tap", no_wrap=True)
    unit = " %" if all(pair.task.percent for pair in pairs) else ""
    for name in (f"A{unit}", f"B{unit}", "change", "lost", "gained", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for pair in pairs:
        move, judgement = pair.move, pair.judgement
        assert move is not None
        tap = " -> ".join(dict.fromkeys(tap.id for tap in pair.taps))
        table.add_row(
            *((pair.dataset, pair.models[0]) if one_model else (pair.dataset,)),
            f"{tap} (chosen)" if pair.chosen else tap,
            *(pair.task.number(accuracy) for accuracy in pair.accuracies),
            pair.task.change(pair.change),
            "" if move.lost is None else str(move.lost),
            "" if move.gained is None else str(move.gained),
            f"{judgement.p_value:.1e}",
            verdict_text(judgement.verdict),
        )
    return table
