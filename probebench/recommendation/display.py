"""The answer as lines, as a page of a notebook, and for rich."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from probebench._format import counted, interval, percent, signed
from probebench.catalog.taps import FINAL
from probebench.recommendation.screening import measured

if TYPE_CHECKING:
    from rich.console import RenderableType

    from probebench.recommendation.recommendation import Recommendation, TapRow

SHOWN = 3
"""Cheaper taps that are named."""


def lines(found: Recommendation) -> list[str]:
    """A few, each one fact."""
    text = [
        f"{found.model} on {found.data}: {counted(found.n_train, 'training image')}, {found.n_validation:,} of them "
        f"for validation, {counted(found.n_test, 'test image')}, {len(found.classes)} classes",
        *([f"note      {found.note}"] if found.note else []),
        f"tap       {found.tap.id}, the best of {len(found.table)} on validation: {percent(found.validation)}% there",
        f"test      {percent(found.test.value)}%, 95% interval {interval(found.test.ci95)}",
        f"gain      {_gain(found)}",
        f"tied      {_tied(found)}",
        f"compute   {_compute(found)}",
        f"how sure  {_sure(found)}",
    ]
    if found.budget is not None:
        text.append(f"budget    {_budget(found)}")
    return text


def _gain(found: Recommendation) -> str:
    if found.tap.layer == FINAL:
        return "none: it is final itself"
    return f"{signed(found.gain)} points over final (p = {found.gain_p:.2g}, McNemar's exact test)"


def _tied(found: Recommendation) -> str:
    others = len(found.table) - 1
    if not found.tied:
        return f"none of the {others} other taps"
    first = f", the earliest {found.tied[0].id}" if found.tied[0] < found.tap else ", none of them earlier"
    return f"{len(found.tied)} of {counted(others, 'other tap')} cannot be told from it on the test images{first}"


def _compute(found: Recommendation) -> str:
    own = _saves(found.saved_compute)
    if not found.cheaper:
        return f"{own}; no tied tap saves more"
    named = ", ".join(f"{row.tap} {percent(row.saved_compute)}% (test {percent(row.test)}%)" for row in _named(found))
    more = f" (up to {percent(found.cheaper[0].saved_compute)}%)" if len(found.cheaper) > SHOWN else ""
    return f"{own}; tied taps save more{more}: {named}"


def _saves(share: float) -> str:
    if share == 0:
        return "no block can be dropped behind it"
    return f"dropping the blocks behind it saves {percent(share)}% of the network's"


def _named(found: Recommendation) -> list[TapRow]:
    """The best of the cheaper taps, which save the least."""
    return found.cheaper[-SHOWN:]


def _sure(found: Recommendation) -> str:
    tests = (
        f"McNemar's exact tests, Holm's procedure at {100 * found.level:g}% over {counted(len(found.table) - 1, 'tap')}"
    )
    return (
        f"ties by {tests}, n = {found.n_test:,}. Tied is not equal: a tap is told apart only by "
        f"{counted(found.smallest, 'test image')} or more, all one way"
    )


def _budget(found: Recommendation) -> str:
    text = (
        f"a ridge probe screened {found.taps} taps on validation; only its best {found.budget} and final had the full "
        "probe. "
    )
    known = measured(found.budget or 0)
    if known is None:
        return text + "How often so few find the full answer was not measured"
    size, often = known
    return text + (
        f"With {size}, the tap of the full probe was among them in {often.same} of {often.runs} measured runs, and the "
        f"one chosen was it or tied with it in {often.tied}"
    )


COLUMNS = ("tap", "validation %", "test %", "95% interval", "vs final", "tied", "saved %")


def rows(found: Recommendation) -> list[tuple[str, ...]]:
    """The recommended tap, those that are cheaper, and ``final``, as cells of `COLUMNS`."""
    shown = [row for row in found.table if row.tap in (found.tap.id, FINAL)]
    shown += [row for row in _named(found) if row not in shown]
    return [
        (
            row.tap,
            percent(row.validation),
            percent(row.test),
            interval((row.low, row.high)),
            signed(row.gain),
            "yes" if row.tied else "no",
            percent(row.saved_compute),
        )
        for row in sorted(shown, key=lambda row: (row.tap != found.tap.id, row.tap == FINAL, -row.saved_compute))
    ]


def rich(found: Recommendation) -> RenderableType:
    """The lines and a short table."""
    from rich.console import Group
    from rich.text import Text

    from probebench.reporting.terminal.console import table

    return Group(*(Text(line) for line in lines(found)), table(COLUMNS, rows(found), ascii_only=False))


def html(found: Recommendation) -> str:
    """The same for a notebook."""
    first, *others = lines(found)
    facts = "".join(
        f"<tr><th style='text-align:left'>{escape(line[:10].strip())}</th>"
        f"<td style='text-align:left'>{escape(line[10:])}</td></tr>"
        for line in others
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows(found))
    return (
        f"<p><b>{escape(first)}</b></p><table>{facts}</table>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
