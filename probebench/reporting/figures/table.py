"""The paper's table: datasets by sites, each site at its best layer, beside references; as markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from probebench.catalog.taps import FINAL, OUTPUT, SITES
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.records.view import SweepView
from probebench.reporting.figures.curves import best_by_site
from probebench.reporting.figures.depth import title
from probebench.reporting.figures.names import safe
from probebench.reporting.sentences import chosen_on

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


@dataclass(frozen=True)
class Table:
    """The table of one model.

    Attributes:
        model: its name
        task: of all its datasets
        on: the images that layers were chosen on, see `probebench.reporting.sentences.chosen_on`
        columns: sites in the order data meets them, ``final`` and ``output``; those that were measured
        rows: datasets with their accuracies, fractions by column; None for what was not measured
        mean: the same, averaged over datasets; None for a column with a missing value. Empty for a single dataset.
    """

    model: str
    task: Task
    on: str
    columns: list[str]
    rows: list[tuple[str, list[float | None]]]
    mean: list[float | None]

    @property
    def name(self) -> str:
        """The model, and the score if that is not the accuracy."""
        return self.model if self.task is CLASSIFICATION else f"{self.model}-{self.task.score}"

    @property
    def caption(self) -> str:
        score = "Accuracy (%)" if self.task.percent else self.task.score
        return f"{score} of {self.model}: best layer of each site, chosen on {self.on} images, final and output."


def table(sweeps: Sequence[SweepView]) -> Table:
    """The table of the sweeps of one model and one task, in their order."""
    found = [best_by_site(sweep) for sweep in sweeps]
    columns = [name for name in (*SITES, FINAL, OUTPUT) if any(name in rows for rows in found)]
    values = [[rows[name].case["accuracy"] if name in rows else None for name in columns] for rows in found]
    mean: list[float | None] = []
    if len(sweeps) > 1:
        for column in zip(*values, strict=True):
            known = [value for value in column if value is not None]
            mean.append(sum(known) / len(known) if len(known) == len(column) else None)
    names = [title(sweep) for sweep in sweeps]
    on = chosen_on([sweep.selection for sweep in sweeps])
    return Table(sweeps[0].model, sweeps[0].task, on, columns, list(zip(names, values, strict=True)), mean)


def to_markdown(tables: Sequence[Table]) -> str:
    """All tables as GitHub's markdown, the best of a row in bold and the second underlined."""
    from tabulate import tabulate

    parts = []
    for each in tables:
        body = [
            [_markdown(name), *_cells(values, each.task, "**{}**", "<ins>{}</ins>")]
            for name, values in [*each.rows, *([("mean", each.mean)] if each.mean else [])]
        ]
        drawn = tabulate(
            body,
            headers=["dataset", *each.columns],
            tablefmt="pipe",
            disable_numparse=True,
            colalign=["left", *["right"] * len(each.columns)],
        )
        parts.append(f"{_markdown(each.caption)}\n\n{drawn}")
    return "\n\n".join(parts) + "\n"


def to_latex(tables: Sequence[Table]) -> str:
    """All tables as LaTeX floats for ``\\input``, marked in the same way; they need the package booktabs only."""
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(map(_float, tables))


def _float(each: Table) -> str:
    def row(name: str, values: Sequence[float | None]) -> str:
        return (
            " & ".join([escaped(name), *_cells(values, each.task, r"\textbf{{{}}}", r"\underline{{{}}}", "--")])
            + r" \\"
        )

    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escaped(each.caption)}}}",
        rf"\label{{tab:probebench-{re.sub('[^A-Za-z0-9.-]', '-', safe(each.name))}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3.5pt}",
        rf"\begin{{tabular}}{{l{'r' * len(each.columns)}}}",
        r"\toprule",
        " & ".join(["dataset", *map(escaped, each.columns)]) + r" \\",
        r"\midrule",
        *(row(name, values) for name, values in each.rows),
        *([r"\midrule", row("mean", each.mean)] if each.mean else []),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cells(values: Sequence[float | None], task: Task, best: str, second: str, missing: str = "") -> list[str]:
    """Numbers as text; numbers that round to the same text share their mark."""
    texts = [task.number(value) for value in values]
    order = sorted({float(text) for text in texts if text}, reverse=True)
    forms = dict(zip(order, (best, second), strict=False))
    return [forms.get(float(text), "{}").format(text) if text else missing for text in texts]


def escaped(text: str) -> str:
    """`text` for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*|<\[\]])", r"\\\1", text)
