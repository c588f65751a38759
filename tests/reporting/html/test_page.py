"""The page as HTML: its structure, and its numbers against the record."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest

from probebench.records.merge import merge
from probebench.records.view import RecordView
from probebench.reporting import html
from probebench.reporting.variants import combination_lines, pooling_lines, same_as_lines
from tests.records.pools import pooled
from tests.records.samples import right, stored
from tests.reporting.html.dom import parse
from tests.reporting.html.records import count, full

RECORD = full()
PAGE = html.render(RECORD, "runs/full.json")
TREE = parse(PAGE)


def section(name, tree=TREE):
    return tree.one("section", id=name)


def table(name, label, tree=TREE):
    region = section(name, tree).one("div", "scroll", aria_label=label)
    return region.table()


def data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_it_is_one_document_that_loads_nothing():
    assert PAGE.startswith("<!doctype html>")
    assert not [each for each in TREE if "src" in each.attributes]
    for each in TREE:
        assert not each.attributes.get("href", "#").startswith(("http", "//")), each
    assert "@import" not in PAGE
    assert not re.search(r"url\((?!#)", PAGE)
    assert TREE.one("html").attributes["lang"] == "en"
    assert TREE.one("title").text == "probebench: 1 regressed, 1 improved, 1 sweep failed"


def test_the_policy_allows_its_own_style_and_script_only():
    policy = TREE.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    script = next(each.raw for each in TREE.find("script") if "type" not in each.attributes)
    for kind, text in (("style", TREE.one("style").raw), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not [each for each in TREE if "style" in each.attributes or any(a.startswith("on") for a in each.attributes)]


def test_every_link_leads_somewhere_and_every_id_is_one_of_a_kind():
    ids = [each.attributes["id"] for each in TREE if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    links = [each.attributes["href"] for each in TREE.find("a")]
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    for each in TREE:
        assert set(each.attributes.get("aria-labelledby", "").split()) <= set(ids)


def test_sections_have_headings_and_controls_have_names():
    sections = TREE.one("main").find("section")
    expected = ["overview", "leaderboard", "depth", "shift", "changes", "selection", "controls", "provenance"]
    assert [each.attributes["id"] for each in sections] == expected
    assert all(each.find("h2") for each in sections)
    assert len(TREE.find("h1")) == 1
    for kind in ("input", "select"):
        for each in TREE.find(kind):
            assert each.parent.tag == "label", each
            assert each.parent.text, each
    for each in TREE.find("svg"):
        assert each.attributes.get("aria-hidden") == "true" or each.attributes.get("aria-label")
    for each in TREE.find("th"):
        assert "scope" in each.attributes


def test_the_overview_counts_verdicts_and_shows_what_moved_first():
    overview = section("overview")
    tiles = {tile.one("span", "verdict").text: tile.one("span", "count").text for tile in overview.find("li")}
    assert tiles == {
        "▼ regressed": "1",
        "▲ improved": "1",
        "≠ not comparable": "0",
        "+ new": "1",
        "= same": "172",
        "✕ failed sweeps": "1",
        "? stale baselines": "1",
    }
    headings = [each.text for each in overview.find("h3")]
    assert headings[:4] == ["Regressed", "Improved", "Could not be measured", "Best tap of each model"]
    assert table("overview", "Regressed") == [
        ["easy", "net", "L02-rc2", "60.0", "54.9", "-5.1", "60", "9", "1.5e-10", "▼ regressed"]
    ]
    assert table("overview", "Improved") == [
        ["hard", "net", "L04-act", "35.0", "45.7", "+10.7", "3", "40", "2e-09", "▲ improved"]
    ]


def test_failures_are_told_with_their_traceback():
    failure = section("overview").one("details", "failure")
    assert failure.one("summary").text == "net_tuned-hard: RuntimeError: out of memory"
    assert failure.one("pre").raw == "RuntimeError: out of memory\nTraceback: line 1\nline 2"


def test_what_was_withheld_is_told_with_the_command():
    assert table("overview", "What was skipped") == [
        ["vit_b16", "2,156", "343 MB + 11 datasets 8.3 GB", "probebench fetch vit_b16"]
    ]


def test_an_interruption_is_told_first():
    page = html.render(full(interrupted=True))
    assert "interrupted" in parse(page).one("title").text
    assert section("overview", parse(page)).find("p", "note")[0].text.startswith("The run was interrupted.")
    assert "The run was interrupted" not in PAGE


def test_best_taps_are_the_chosen_ones():
    rows = table("overview", "Best tap of each model")
    assert [row[:2] for row in rows] == [
        *(["easy", model] for model in ("net", "net_random", "net_tuned")),
        *(["hard", model] for model in ("net", "net_random")),
    ]
    low, high = next(case for case in RECORD["cases"] if case["id"] == "net-easy-L03-act")["ci95"]
    assert rows[0][2:] == ["L03-act", "81.5", f"{100 * low:.1f}–{100 * high:.1f}", "+12.5"]


def test_the_leaderboard_is_ranked_and_its_script_has_every_case():
    found = data(PAGE)
    assert len(found["sweep"]) == len(RECORD["cases"])
    cases = {case["id"]: case for case in RECORD["cases"]}
    for row, number in enumerate(found["sweep"]):
        sweep = found["sweeps"][number]
        layer, site = found["layer"][row], found["site"][row]
        tap = found["places"][-1 - site] if site < 0 else f"L{layer:02d}-{found['sites'][site]}"
        case = cases.pop(f"{sweep['model']}-{sweep['dataset']}-{tap}")
        assert found["accuracy"][row] == round(1000 * case["accuracy"])
        assert [found["low"][row], found["high"][row]] == [round(1000 * end, 0) for end in case["ci95"]]
        assert found["verdicts"][found["verdict"][row]] == case["verdict"]
        output = count(sweep["model"], sweep["dataset"], "output")
        assert found["output"][row] == count(sweep["model"], sweep["dataset"], tap) - output
        assert found["nll"][row] == f"{case['metrics']['nll']['value']:.3g}"
        assert found["top5"][row] == round(1000 * case["metrics"]["top5"]["value"])
        matched = case["width_matched"]
        assert found["matched"][row] == (matched and round(1000 * matched["accuracy"]))
        before = case["baseline_accuracy"]
        assert found["change"][row] == (
            None if before is None else pytest.approx(1000 * (case["accuracy"] - before), abs=0.51)
        )
    assert not cases
    rows = section("leaderboard").one("table", id="board").table()
    assert len(rows) == 25
    assert rows[0][:6] == ["1", "easy", "net_tuned", "L03-act", "83.5", "81.1–85.7"]


def test_columns_without_a_value_are_left_out():
    plain = stored({("net", "d"): {"L01-act": right(700), "final": right(600)}}).record
    board = section("leaderboard", parse(html.render(plain))).one("table", id="board")
    titles = [each.text for each in board.find("th")]
    assert titles == ["#", "dataset", "model", "tap", "acc %", "95% CI", "vs output", "vs rc2", "verdict"] + [
        "width",
        "seconds",
    ]
    assert board.table()[0][7] == ""  # the block output of the last layer was not measured
    full_board = section("leaderboard").one("table", id="board")
    assert {"top 5 %", "NLL", "ECE %", "per class %", "equal width %", "held out %"} <= {
        each.text for each in full_board.find("th")
    }


def test_each_dataset_has_its_charts_and_each_sweep_its_map():
    depth = section("depth")
    easy, hard = depth.find("details", "dataset")
    assert easy.find("h3")[0].text == "easy"
    assert "open" in easy.attributes
    assert "open" not in hard.attributes
    assert [each.find("h4")[0].text for each in easy.find("details", "sweep")] == ["net", "net_random", "net_tuned"]
    assert len(easy.one("div", "facets").find("svg", "chart")) == 8
    grid = easy.find("table", "map")[0]
    assert grid.table()[0] == ["embed", "30.0"]
    assert grid.table()[3][6] == "81.5"
    assert "▼" in grid.table()[2][8]
    focusable = [each for each in grid if "tabindex" in each.attributes]
    assert [each.text for each in focusable] == ["81.5"]
    assert "chosen" in focusable[0].attributes["class"]


def test_gains_stand_beside_their_shift():
    assert table("shift", "Gain by shift") == [
        ["net", "1", "easy", "no shift", "0.012 ± 0.004", "L03-act", "+12.5", "+12.5", "+4.1"],
        ["net", "2", "hard", "strongly shifted", "0.31 ± 0.004", "L03-act", "+15.2", "+15.2", "+5.0"],
        ["net_tuned", "1", "easy", "no shift", "no reference set for net_tuned", "L03-act", "+12.5", "+12.5", ""],
    ]


def test_changes_are_summed_up_by_sweep():
    rows = table("changes", "Changes by sweep")
    mean = 1000 * (0.549 - 0.6 + 0.4 - 0.398) / 35
    assert rows[0] == [
        *("easy", "net", "1", "", "", "", "34", f"{mean / 10:+.1f}", "-5.1 at L02-rc2", "+0.2 at L01-ln1")
    ]
    assert rows[-1][:7] == ["easy", "net_tuned", "", "", "", "1", "34"]
    (near,) = table("changes", "The largest changes that are no verdict")
    assert near == ["easy", "net", "L01-ln1", "39.8", "40.0", "+0.2", "5", "7", "0.39", "= same"]
    assert section("changes").one("details", id="stale").find("code")[0].text == "net-easy-L05-act"


def test_the_selection_is_told_with_its_ties():
    first = table("selection", "Selection")[0]
    assert first[:4] == ["easy", "net", "L03-act", "75.0"]
    assert first[6:9] == ["+12.5", "L03-act (81.5%)", "+0.0"]
    assert first[9] == "4: L03-fc2, …L03-fc2, L03-rc2, L04-act, final; of the others 29 worse, 1 better"
    record = full()
    for sweep in record["sweeps"]:
        del sweep["selection"]
    assert table("selection", "Selection", parse(html.render(record)))[0][9] == "not in this record"


def test_controls_say_what_is_left_of_a_gain():
    rows = table("controls", "Controls")
    assert [row[:2] for row in rows] == [["easy", "net"], ["easy", "net_tuned"], ["hard", "net"]]
    net, tuned, _ = rows
    assert net[2:7] == ["L03-act", "81.5", "+12.5", "32", "27.1"]
    assert net[8:12] == ["+4.1", "+54.4", "8", "79.0"]
    assert net[13] == "+10.0"
    assert tuned[6:10] == ["–", "", "", ""]  # a model without a control in the record


def test_a_tap_that_is_no_wider_counts_as_it_is():
    record = full()
    for case in record["cases"]:
        if case["site"] == "act":
            case["width_matched"] = None
    rows = table("controls", "Controls", parse(html.render(record)))
    assert rows[0][-1] == "no wider: its own accuracy counts"
    for case in record["cases"]:
        case["width_matched"] = None
    rows = table("controls", "Controls", parse(html.render(record)))
    assert [row[-1] for row in rows] == ["not in this record", "not in this record"]


def facts(tree):
    return [
        (row.one("dt").text, row.one("dd").text) for row in section("provenance", tree).find("div") if row.find("dt")
    ]


def test_provenance_is_whole():
    found = dict(facts(TREE))
    assert found["record"] == "runs/full.json"
    assert found["protocol"] == "default@2 (ffffffffffffffff)"
    assert found["command"] == "pytest benchmarks/"
    assert found["took"] == "10 s"
    assert f"torch {RECORD['versions']['torch']}" in found["versions"]
    assert found["platform"] == RECORD["hardware"]["platform"]
    assert found["processor"].startswith(RECORD["hardware"]["cpu"])
    rows = table("provenance", "Sweeps")
    assert len(rows) == 5
    assert rows[0][:6] == ["easy", "net", "default@2", "a" * 16, "b" * 16, "easy"]
    assert rows[0][10] == "0"


def test_merged_runs_are_told_one_by_one():
    a = stored({("net", "easy"): {"L01-act": right(700)}}, "gpu-1/run.json")
    b = stored({("net", "hard"): {"L01-act": right(600)}}, "gpu-2/run.json", hours=2, command=["pytest", "a b"])
    record, _ = merge([a, b])
    tree = parse(html.render(record, "2 runs"))
    titles = [each.text for each in section("provenance", tree).find("h3")]
    assert titles == ["Merged: gpu-1/run.json", "Merged: gpu-2/run.json", "Sweeps"]
    commands = [text for name, text in facts(tree) if name == "command"]
    assert commands == ["pytest benchmarks/", "pytest 'a b'"]


def test_what_plugins_added_is_shown():
    tree = parse(html.render(full(extra={"commit": "abc", "nested": [1, 2]})))
    assert json.loads(section("provenance", tree).find("pre")[-1].raw) == {"commit": "abc", "nested": [1, 2]}


@pytest.mark.parametrize("failures", [[], [{"sweep": "net-d", "error": ""}]])
def test_a_run_without_a_case_has_a_report(failures):
    record = stored({}, images_per_second=None, failures=failures).record
    tree = parse(html.render(record))
    assert "No case was measured." in section("overview", tree).text
    assert tree.one("title").text == f"probebench: {'1 sweep failed' if failures else 'nothing measured'}"


def test_transfer_is_told():
    record = full()
    record["sweeps"][0]["trained_on"] = "clean"
    assert "trained on clean" in section("depth", parse(html.render(record))).find("details", "sweep")[0].text


HOSTILE = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\"'&{{ 7 * 7 }}\u2028"


def hostile():
    """A record that has markup wherever it has text of its user's."""
    record = full(
        failures=[{"sweep": HOSTILE, "error": f"{HOSTILE}\n{HOSTILE}"}],
        stale=[HOSTILE],
        command=["pytest", HOSTILE],
        extra={HOSTILE: HOSTILE},
        withheld=[{"model": HOSTILE, "cases": 1, "lacks": HOSTILE, "command": HOSTILE}],
    )
    record["versions"] |= {HOSTILE: HOSTILE}
    record["hardware"] |= {"cpu": HOSTILE, "platform": HOSTILE, "gpus": [HOSTILE]}
    for entry in (*record["sweeps"], *record["cases"]):
        entry["model"], entry["dataset"] = f"{entry['model']}{HOSTILE}", f"{entry['dataset']}{HOSTILE}"
    for sweep in record["sweeps"]:
        sweep["trained_on"] = HOSTILE
        sweep["control_of"] = sweep["control_of"] and f"net{HOSTILE}"
        sweep["shift_distance"] = {"unavailable": HOSTILE}
    record["sweeps"][0]["shift_distance"] = {"measure": HOSTILE, "reference": HOSTILE, "value": 1, "standard_error": 0}
    record["merged"] = [
        {"name": HOSTILE, **{key: record[key] for key in ("started", "command", "versions", "hardware")}}
    ] * 2
    return record


def test_texts_of_the_record_are_texts_on_the_page():
    page = html.render(hostile(), HOSTILE)
    tree = parse(page)
    assert len(tree.find("script")) == 2
    assert not tree.find("img")
    assert not [each for each in tree if any(name.startswith("on") for name in each.attributes)]
    assert page.count("</script") == 2
    found = data(page)
    assert found["sweeps"][0] == {"model": f"net{HOSTILE}", "dataset": f"easy{HOSTILE}", "depth": 4}
    plain = " ".join(HOSTILE.split())
    assert plain in section("overview", tree).one("details", "failure").text
    for name in ("leaderboard", "depth", "shift", "changes", "selection", "controls", "provenance"):
        assert plain in section(name, tree).text, name


def test_poolings_combinations_and_equal_taps_are_below_the_selection():
    record = pooled().record
    tree = parse(html.render(record))
    rows = table("selection", "net: accuracy by pooling and depth", tree)
    assert ["far", "late", "cls", "L06-act.cls", "73.4", "+9.0", "+6.8 to +11.2"] in [row[:7] for row in rows]
    view = RecordView(record)
    told = [each.text for each in section("selection", tree).find("li")]
    assert told == [*pooling_lines(view), *combination_lines(view), *same_as_lines(view)]
    headings = [each.text for each in section("selection", tree).find("h3")]
    assert headings[1:] == ["Best pooling by depth and shift", "Combinations", "Equal taps"]
    assert not section("selection").find("h3")


def test_the_script_knows_poolings_and_combinations_by_name():
    record = pooled(["clean"]).record
    found = data(html.render(record))
    names = set()
    for row, layer in enumerate(found["layer"]):
        site = found["site"][row]
        place = found["places"][-1 - site] if site < 0 else f"L{layer:02d}-{found['sites'][site]}"
        pooling = found["poolings"][found["pooling"][row]]
        names.add(f"net-clean-{place}{pooling and f'.{pooling}'}")
    assert names == {case["id"] for case in record["cases"]}
    assert "pooling" not in data(PAGE)


def test_a_record_without_output_says_why_there_are_no_gains():
    record = full()
    record["cases"] = [case for case in record["cases"] if case["site"] != "output"]
    tree = parse(html.render(record))
    assert "No gain over output for net on easy, net on hard and 3 more" in section("leaderboard", tree).text
    assert "No gain over output" not in section("leaderboard").text
    assert "Needs the tap output beside others" in section("shift", tree).text
