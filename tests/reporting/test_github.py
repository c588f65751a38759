from __future__ import annotations

import pytest

from probebench.errors import Note
from probebench.reporting.github import LIMIT, ROWS, annotation, append, command, report, summary
from tests.records.pools import pooled
from tests.records.samples import right, stored
from tests.reporting.boards import full

NET = ("net", "digits")


def record(**verdicts):
    """A run of 200 cases, of which some moved."""
    taps = {f"L{layer:02d}-{site}": right(700) for layer in range(1, 101) for site in ("act", "rc2")}
    found = stored({NET: taps}).record
    moves = [verdict for verdict, count in verdicts.items() for _ in range(count)]
    for i, (case, verdict) in enumerate(zip(found["cases"], moves, strict=False)):
        sign = 1 if verdict == "regressed" else -1
        case |= {
            "verdict": verdict,
            "lost": 60,
            "gained": 1,
            "p_value": 1e-9,
            "baseline_accuracy": 0.7 + sign * i / 999,
        }
        found["cases"][i] = case
    return found


# Annotation


def test_workflow_commands_are_escaped():
    assert command("error", "50% worse\r\n::error::x", "a:b,c\n%") == (
        "::error title=a%3Ab%2Cc%0A%25::50%25 worse%0D%0A::error::x"
    )


def test_a_run_that_passes_is_a_notice():
    text = annotation(record(), [], [])
    assert text == "::notice title=probebench::200 cases in 1 sweep: 200 new, 200 images/s"


def test_all_that_fails_a_run_is_one_error():
    found = record(regressed=12)
    failed = "could not be measured: net-birds: DataError: 100% wrong"
    text = annotation(found, [failed, *(f"regressed: case {i}" for i in range(12))], ["ERROR: disk full"])
    assert text.startswith("::error title=probebench::200 cases in 1 sweep: 188 new, 12 regressed")
    assert text.endswith("%0Aregressed: case 8%0Aand 4 more")
    assert "could not be measured: net-birds: DataError: 100%25 wrong%0A" in text
    assert "\n" not in text


def test_an_interrupted_run_is_an_error():
    assert "::The run was" not in annotation(record() | {"interrupted": True}, [], [])
    assert annotation(record() | {"interrupted": True}, [], []).startswith("::error")


# Summary


def test_the_summary_has_the_tally_what_moved_and_the_best_taps():
    found = record(regressed=2, improved=1)
    found["failures"] = [{"sweep": "net-birds", "error": "DataError: <no> such folder\n\n  traceback"}]
    complaints = [
        "regressed: one",
        "could not be measured: net-birds: DataError: <no> such folder",
        "failed: test_a.py::test_floor[one]",
        "new: net-digits-L01-act has no baseline",
    ]
    text = summary(found, complaints, ["run record: r.json"])
    pieces = [
        *(
            "## probebench: 2 regressed, 1 improved, 1 sweep could not be measured\n",
            "200 cases in 1 sweep: 197 new, 2 regressed, 1 improved",
        ),
        *("protocol default@2 (ffff", "### Regressed\n\n| dataset", "### Improved\n\n| dataset"),
        *("### Could not be measured\n\n<pre>\nnet-birds: DataError: &lt;no&gt; such folder\n</pre>",),
        *("### Failed tests\n\n<pre>\nfailed: test_a.py::test_floor[one]\n</pre>",),
        *("### Fails with `--probe-strict`\n\n<pre>\nnew: net", "### Best tap of each model", "run record: r.json"),
    ]
    places = [text.index(piece) for piece in pieces]
    assert places == sorted(places)
    assert "regressed: one" not in text  # it is in the table
    assert "could not be measured: net-birds" not in text  # it has its own list
    assert summary(found, [], []).startswith(
        "## probebench: 2 regressed, 1 improved, 1 sweep could not be measured (no test fails)\n"
    )
    quiet = summary(record(), [], [])
    assert quiet.startswith("## probebench: nothing to compare with\n")
    known = record()
    known["cases"][0]["verdict"] = "same"
    assert summary(known, [], []).startswith("## probebench: nothing moved\n")
    assert "Regressed" not in quiet


def test_the_largest_changes_come_first_and_the_rest_is_counted():
    text = summary(record(regressed=150), [], [])
    rows = [line for line in text.splitlines() if line.startswith("| digits")]
    assert len(rows) == ROWS + 1  # and the best tap
    assert rows[0].split("|")[3].strip() == "L75-rc2"
    assert "and 50 more, in the run record" in text


def test_cells_cannot_break_the_table():
    found = record(regressed=1)
    for entry in (*found["cases"], *found["sweeps"]):
        entry["model"] = "a|<b>"
    assert "| a\\|&lt;b&gt; |" in summary(found, [], [])


def test_the_summary_has_what_is_tied_what_controls_leave_and_what_wins_as_shift_grows():
    found = record() | {key: full()[key] for key in ("sweeps", "cases")}
    assert "earliest tied" not in summary(record(), [], [])
    assert "### Controls" not in summary(record(), [], [])
    for i, name in enumerate(("more", "most", "far")):
        sweep = found["sweeps"][1] | {"dataset": name}
        sweep["shift_distance"] = {"measure": "kid", "reference": "<b>", "value": i / 10, "standard_error": 0.01}
        found["sweeps"].append(sweep)
        found["cases"] += [
            c | {"dataset": name} for c in full()["cases"] if (c["model"], c["dataset"]) == ("net", "hard")
        ]
    cases = [case | {"fingerprint": "f" * 16} for case in found["cases"]]
    text = summary(found | {"cases": cases}, [], [])
    table = text[text.index("### Best tap") :].splitlines()
    names, _, first = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:5])
    row = dict(zip(names, first, strict=True))
    assert (row["dataset"], row["model"], row["tap"], row["random"]) == ("easy", "net", "L02-act", "+18.0")
    assert (row["tied"], row["earliest tied"]) == ("1", "L01-act")
    assert "### Controls\n\n- net, 1 dataset: the chosen taps gain +15.0 points over output" in text
    assert "### As shift grows\n\n- net: what wins as shift grows (distance: KID to &lt;b&gt;): Spearman's" in text


# The file


def test_a_summary_is_added_to_what_is_there(tmp_path):
    path = tmp_path / "summary.md"
    append(path, "one\n")
    append(path, "två\n")
    assert path.read_text(encoding="utf-8") == "one\ntvå\n"


@pytest.mark.parametrize("there", [0, 1000, LIMIT - 30, LIMIT + 30])
def test_a_summary_stays_below_the_limit_in_whole_lines(tmp_path, there):
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * there)
    append(path, "å line\n" * LIMIT)
    data = path.read_bytes()[there:]
    assert len(data) == 0 if there > 1000 else 0.99 * LIMIT < there + len(data) <= LIMIT
    if data:
        lines = data.decode("utf-8").splitlines()
        assert set(lines[:-3]) <= {"å line", ""}
        assert lines[-1].startswith("(Cut: ")


def test_a_summary_that_cannot_be_written_is_a_warning(tmp_path):
    lines = report(record(), [], [], {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert len(lines) == 2
    assert lines[0].startswith("WARNING: cannot write the step summary (Is a directory)")
    assert lines[1].startswith("::notice")
    assert len(report(record(), [], [Note("error", "disk full")], {})) == 1


def test_poolings_and_combinations_are_summed_up():
    some = pooled().record
    text = summary(some, [], [])
    assert "### Poolings and combinations\n\n- net without shift (2 datasets): " in text
    assert "- net on far: the pair L05-act + L06-rc2.cls is not distinguishable from L06-rc2.cls alone" in text
    some["cases"] = [case for case in some["cases"] if case["site"] != "output"]
    assert "No gain over output for net on clean, net on more and 1 more: " in summary(some, [], [])
