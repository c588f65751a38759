"""All files of a record, drawn in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench.catalog.tasks import CLASSIFICATION
from probebench.errors import ProbebenchError, unknown
from probebench.records.select import matching
from probebench.records.types import Record
from probebench.records.view import RecordView, SweepView
from probebench.reporting.figures.best import best_of_sites
from probebench.reporting.figures.choice import bases, by_shift, distance, families
from probebench.reporting.figures.contrasts import by_contrast
from probebench.reporting.figures.depth import by_depth
from probebench.reporting.figures.names import distinct
from probebench.reporting.figures.options import FigureOptions
from probebench.reporting.figures.poolings import by_pooling, has_poolings
from probebench.reporting.figures.sites import by_site
from probebench.reporting.figures.style import paper, to_bytes
from probebench.reporting.figures.table import table, to_latex, to_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(record: Record, wanted: FigureOptions) -> tuple[dict[str, bytes | str], list[str]]:
    """The files by name, and a line for each figure that the record has no data for.

    See `probebench.reporting.figures.write`.
    """
    contents = RecordView(record, "")
    if not contents.sweeps:
        raise ProbebenchError("the record has no case to draw")
    with paper():
        drawn, notes = figures(contents, wanted)
        names = distinct(drawn)
        files: dict[str, bytes | str] = {
            f"{name}.{kind}": to_bytes(figure, kind)
            for name, figure in zip(names, drawn.values(), strict=True)
            for kind in wanted.formats
        }
    tables = [
        table([sweep for sweep in sweeps if sweep.task is task])
        for sweeps in _by_model(contents, wanted).values()
        for task in dict.fromkeys(sweep.task for sweep in sweeps)
    ]
    return files | {"table.tex": to_latex(tables), "table.md": to_markdown(tables)}, notes


def figures(contents: RecordView, wanted: FigureOptions) -> tuple[dict[str, Figure], list[str]]:
    """The figures by name, and the notes. To be called inside `style.paper`."""
    found: dict[str, Figure] = {}
    notes = []
    models = matching("model", wanted.models, contents.models)
    datasets = matching("dataset", wanted.datasets, list(contents.datasets))
    sites = {tap.site for sweep in contents.sweeps for tap in sweep.rows if isinstance(tap.layer, int)}
    if wanted.site is not None and wanted.site not in sites:
        raise unknown("site", wanted.site, sites)
    grouped = families(contents, bases(contents, wanted.tuned), models, datasets)
    several = len({family.base for family in grouped}) > 1
    for family in grouped:
        name = f"depth-{family.base}-{family.dataset}" if several else f"depth-{family.dataset}"
        figure = by_depth(family, wanted.site)
        if figure is None:
            notes.append(f"no {name}: fewer than two layers were measured")
            continue
        found[name] = figure
        if not family.controls:
            notes.append(f"{name} has no random control: the record has none of {family.base} on {family.dataset}")
    for model, sweeps in _by_model(contents, wanted).items():
        for sweep in sweeps:
            name = f"sites-{model}-{sweep.dataset}"
            figure = by_site(sweep)
            if figure is None:
                notes.append(f"no {name}: fewer than two layers were measured")
            else:
                found[name] = figure
            if has_poolings(sweep):
                name = f"poolings-{model}-{sweep.dataset}"
                figure = by_pooling(sweep)
                if figure is None:
                    notes.append(f"no {name}: fewer than two layers were measured")
                else:
                    found[name] = figure
        for task in dict.fromkeys(sweep.task for sweep in sweeps):
            own = [sweep for sweep in sweeps if sweep.task is task]
            name = f"best-{model}" if task is CLASSIFICATION else f"best-{model}-{task.name}"
            by_distance = len(own) > 1 and all(distance(contents, sweep) is not None for sweep in own)
            figure = best_of_sites(own, by_distance=by_distance)
            if figure is None:
                notes.append(f"no {name}: no site of a layer was measured")
            else:
                found[name] = figure
            if (figure := by_contrast(own, by_distance=by_distance)) is not None:
                found[name.replace("best", "contrasts", 1)] = figure
    return found, notes


def _by_model(contents: RecordView, wanted: FigureOptions) -> dict[str, list[SweepView]]:
    """The selected sweeps by model, datasets in the order to show them."""
    models = matching("model", wanted.models, contents.models)
    datasets = matching("dataset", wanted.datasets, list(contents.datasets))
    groups = {
        model: by_shift(contents, [s for s in contents.sweeps if s.model == model and s.dataset in datasets])
        for model in models
    }
    if not any(groups.values()):
        raise ProbebenchError(f"{' or '.join(models)} was not measured on {' or '.join(datasets)}")
    return {model: sweeps for model, sweeps in groups.items() if sweeps}
