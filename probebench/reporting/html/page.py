"""The page: its sections, its style and its script in one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from probebench._version import __version__
from probebench.catalog.taps import SITES
from probebench.records.types import Record
from probebench.records.view import RecordView
from probebench.reporting import palette
from probebench.reporting.contrasts import contrast_lines, contrast_sweeps, contrast_table, contrast_title
from probebench.reporting.html import (
    changes,
    controls,
    curves,
    heat_map,
    leaderboard,
    provenance,
    selection,
    shift_gain,
)
from probebench.reporting.html.numbers import DASH
from probebench.reporting.sentences import SHIFT_WORDS, missing_output_line, pooling_title
from probebench.reporting.tables import pooling_details, pooling_sweeps
from probebench.reporting.variants import combination_lines, pooling_lines, same_as_lines

if TYPE_CHECKING:
    from jinja2 import Environment

SCRIPTS = ("page.js", "board.js", "charts.js")
VERDICT_SIGNS = {"regressed": "▼", "improved": "▲", "same": "=", "new": "+", "not comparable": "≠"}


def page(record: Record, name: str) -> str:
    """See `probebench.reporting.html.render`."""
    contents = RecordView(record, name)
    columns = leaderboard.columns(contents)
    style = _asset("report.css").replace("/* colours */", palette.colour_rules())
    style, script = style.replace("/* dashes */", palette.dash_rules()), "\n".join(map(_asset, SCRIPTS))
    return (
        _environment()
        .get_template("page.html")
        .render(
            version=__version__,
            contents=contents,
            record=record,
            style=style,
            script=script,
            # Names and errors are escaped. Should one slip through, the browser still runs and loads nothing of it.
            policy=f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'",
            headline=changes.headline(contents),
            groups=changes.groups(contents),
            largest=changes.largest(contents),
            summaries=changes.summaries(contents),
            columns=columns,
            first_rows=leaderboard.first_rows(contents),
            places=leaderboard.places(contents),
            page_size=leaderboard.PAGE,
            data=leaderboard.data(contents, columns),
            choices=selection.choices(contents),
            pooling_tables=[
                (pooling_title(*key), *pooling_details(sweeps)) for key, sweeps in pooling_sweeps(contents).items()
            ],
            contrast_tables=[
                (contrast_title(*key), *contrast_table(sweeps)) for key, sweeps in contrast_sweeps(contents).items()
            ],
            contrast_lines=contrast_lines(contents),
            pooling_lines=pooling_lines(contents),
            combination_lines=combination_lines(contents),
            same_as_lines=same_as_lines(contents),
            optimism=selection.mean_optimism(contents),
            plots=shift_gain.plots(contents),
            controls=controls.controls(contents),
            facts=provenance.summary(contents),
            sources=provenance.sources(contents),
            sweep_columns=provenance.SWEEP_COLUMNS,
            sweep_rows=provenance.sweep_rows(contents),
            extra=provenance.extra(contents),
            shapes=palette.SHAPES,
            signs=VERDICT_SIGNS,
            shift_words=SHIFT_WORDS,
            sites=SITES,
            steps=heat_map.STEPS,
            heat_map=heat_map.heat_map,
            sites_by_depth=curves.sites_by_depth,
            compare_models=curves.compare_models,
            score_heading=contents.score_heading,
            percents=all(task.percent for task in contents.tasks.values()),
            missing_output=missing_output_line(contents),
            dash=DASH,
            count=lambda sweeps, verdict: sum(sweep.count(verdict) for sweep in sweeps),
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("probebench.reporting.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment


def _asset(name: str) -> str:
    return files("probebench.reporting.html").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash by which a content security policy allows a script or a style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
