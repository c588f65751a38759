"""The cases that -k and -m select, found before pytest makes tests: always those that pytest itself would keep."""

from __future__ import annotations

import pytest

from probebench.plugin import collection, preselection
from probebench.plugin.preselection import parse

TWO = """
import pytest

@pytest.mark.slow
class TestGroup:
    @pytest.mark.probe(model=["tiny", "tiny_other"], dataset=["blobs", "blobs_dark"])
    def test_probe(self, probe):
        probe.check()

@pytest.mark.probe(model="tiny", dataset="blobs")
def test_single(probe):
    probe.check()

@pytest.mark.parametrize("fast", [1, 2])
@pytest.mark.probe(model="tiny", dataset="blobs", layer=1)
def test_more(fast, probe):
    probe.check()
"""


def ids(result):
    return [line for line in result.stdout.lines if "::" in line]


@pytest.mark.parametrize(
    "args",
    [
        ["-k", "tiny-blobs-"],
        ["-k", "TINY_other and L02"],
        ["-k", "not tiny_other"],
        ["-k", "not (blobs_dark or act) and (final or L01)"],
        ["-k", "group"],
        ["-k", "not group"],
        ["-k", "slow or single"],
        ["-k", "dark-L01-ac"],
        ["-k", "test_probe[tiny-"],
        ["-k", "1-tiny or act-2"],
        ["-k", "not nothing"],
        ["-m", "slow and probe(layer=2)"],
        ["-m", "probe(model='tiny', dataset='blobs') and not probe(layer=1)"],
        ["-m", "not slow and probe(site='act') or probe(layer='final')"],
        ["-m", "probe(model=None)"],
        ["-k", "dark", "-m", "not probe(model='tiny')"],
    ],
    ids=" ".join,
)
def test_nothing_is_left_out_that_pytest_selects(project, run, monkeypatch, args):
    project.makeini("[pytest]\nmarkers = slow\n")
    project.makepyfile(test_tiny=TWO)
    found = ids(run("--collect-only", "-q", *args))
    monkeypatch.setattr(collection, "Preselection", _Everything)
    assert sorted(found) == sorted(ids(run("--collect-only", "-q", *args)))


class _Everything(preselection.Preselection):
    def choose(self, sweep, taps):
        return taps


def test_few_tests_are_made_of_many_cases(project, run):
    project.makepyfile(test_tiny=TWO.replace("@pytest.mark.slow", ""))
    # 3 cases; and, because they have another parameter, all 16 of layer 1.
    run("--collect-only", "-k", "tiny-blobs and L02-act").stdout.fnmatch_lines(["collected 19 items / 16 deselected*"])


@pytest.mark.parametrize("text", ["", "  ", "a and", "(a", "a b", "not", "a)", "a & b", "or a"])
def test_what_is_no_expression_is_left_to_pytest(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("some", None),
        ("not some", None),
        ("no and some", False),
        ("yes or some", True),
        ("yes and some", None),
        ("no or some and yes", None),
        ("not (no or no) and not not yes", True),
    ],
)
def test_an_expression_is_unknown_only_if_a_word_that_matters_is(text, value):
    found = parse(text)
    assert found is not None
    assert found({"yes": True, "no": False, "some": None}.__getitem__) is value
