"""The paper's table."""

from __future__ import annotations

import re

import pytest

from probebench.catalog.taps import SITES
from probebench.records.view import RecordView
from probebench.reporting.figures.names import LONGEST, distinct, safe
from probebench.reporting.figures.table import escaped, table, to_latex, to_markdown
from tests.records.samples import right, stored
from tests.reporting.html.records import count, full


def of(record, model="net"):
    return table([sweep for sweep in RecordView(record, "").sweeps if sweep.model == model])


def cells(line, between):
    return [cell.strip() for cell in line.strip().strip("|").removesuffix(r"\\").split(between)]


def numbers(texts):
    return [float(re.sub(r"[^0-9.]", "", text)) for text in texts]


def expected(dataset):
    chosen = [count("net", dataset, f"{'L03' if site == 'act' else 'L04'}-{site}") for site in SITES]
    return [value / 10 for value in [*chosen, *(count("net", dataset, name) for name in ("final", "output"))]]


def test_markdown_has_the_numbers_of_the_record():
    caption, _, header, rule, *body = to_markdown([of(full())]).splitlines()
    assert caption == "Accuracy (%) of net: best layer of each site, chosen on held-out images, final and output."
    assert cells(header, "|") == ["dataset", *SITES, "final", "output"]
    assert re.fullmatch(r"\|:-+\|(-+:\|){10}", rule)
    rows = {name: values for name, *values in (cells(line, "|") for line in body)}
    assert list(rows) == ["easy", "hard", "mean"]
    for dataset in ("easy", "hard"):
        assert numbers(rows[dataset]) == expected(dataset)
    means = [(a + b) / 2 for a, b in zip(expected("easy"), expected("hard"), strict=True)]
    assert numbers(rows["mean"]) == pytest.approx(means, abs=0.051)
    # act of layer 3 is best on easy, and rc2 of layer 4 is second.
    assert rows["easy"][SITES.index("act")] == "**81.5**"
    assert rows["easy"][SITES.index("rc2")] == "<ins>74.9</ins>"


def test_latex_has_the_same_numbers():
    text = to_latex([of(full()), of(full(), "net_random")])
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count("{") == text.count("}")
    first = text.split(r"\end{table}")[0].splitlines()
    body = [cells(line, "&") for line in first if line.endswith(r"\\")]
    assert body[0] == ["dataset", *SITES, "final", "output"]
    for name, *values in body[1:3]:
        assert numbers(values) == expected(name)
    assert rf"\textbf{{{expected('easy')[SITES.index('act')]}}}" in body[1]
    assert r"\underline{74.9}" in body[1]
    rules = [line for line in first if line in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert rules == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    assert r"\label{tab:probebench-net}" in first
    assert r"\label{tab:probebench-net-random}" in text


def test_what_reads_the_same_is_equally_good_and_what_is_missing_is_a_dash():
    taps = {"L01-ln1": right(700), "L01-act": right(700), "L01-rc2": right(650)}
    record = stored({("net", "a"): taps, ("net", "b"): {"L02-act": right(500), "final": right(400)}}).record
    made = of(record)
    assert made.columns == ["ln1", "act", "rc2", "final"]
    assert r"a & \textbf{70.0} & \textbf{70.0} & \underline{65.0} & -- \\" in to_latex([made])
    assert r"b & -- & \textbf{50.0} & -- & \underline{40.0} \\" in to_latex([made])
    assert r"mean & -- & \textbf{60.0} & -- & -- \\" in to_latex([made])
    assert "chosen on test images" in made.caption
    assert of(stored({("net", "a"): taps}).record).mean == []


def test_names_are_escaped():
    assert escaped(r"a_b&c%d$e#f{g}h~i^j\k") == (
        r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k"
    )
    record = stored({("ne_t|", "d|<*"): {"L01-act": right(700)}}).record
    assert r"| d\|\<\* " in to_markdown([of(record, "ne_t|")])
    latex = to_latex([of(record, "ne_t|")])
    assert r"\caption{Accuracy (\%) of ne\_t\textbar{}: " in latex
    assert r"\label{tab:probebench-ne-t-}" in latex


def test_names_of_files_are_safe_and_distinct():
    assert safe("../a b/c:d*") == "_a_b_c_d_"
    assert safe("") == "_"
    assert len(safe("é" * 300).encode()) <= LONGEST
    assert distinct(["a/b", "a_b", "A_B", "c"]) == ["a_b", "a_b-2", "A_B-3", "c"]
