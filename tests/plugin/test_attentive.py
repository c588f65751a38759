from __future__ import annotations

import json

import pytest

from probebench.records import run_record

ATTENTIVE = ("--probe-model=tiny", "--probe-dataset=blobs", "--probe-protocol=attentive@1")
TWO = (*ATTENTIVE, "--probe-layer=1", "--probe-site=ln1,act")


def test_attentive_cases_are_judged_against_their_baselines_with_the_linear_probe_beside_them(run, project):
    first = run(*TWO, "--probe-update=new", "--probe-json=first.json")
    first.assert_outcomes(passed=2)
    second = run(*TWO, "--probe-strict", "--probe-json=second.json", "--probe-leaderboard-file=board.csv")
    second.assert_outcomes(passed=2)
    first.stdout.fnmatch_lines([" #  model *vs rc2  linear  linear  verdict"])
    first.stdout.re_match_lines_random(
        [rf" \d  tiny   L01-{site}  .* [+-]\d+[.]\d   \d[.]\d{{3}}  new" for site in ("ln1", "act")]
    )
    records = [run_record.load(project.path / f"{name}.json") for name in ("first", "second")]
    assert [case["verdict"] for case in records[1]["cases"]] == ["same", "same"]
    cases = [{case["site"]: case for case in record["cases"]} for record in records]
    assert cases[0].keys() == {"ln1", "act"}
    for site, case in cases[1].items():
        assert case["accuracy"] == cases[0][site]["accuracy"]
        assert case["linear"] == cases[0][site]["linear"]
        low, high = case["linear"]["ci95"]
        assert 0 <= low <= case["linear"]["accuracy"] <= high <= 1
    header, *rows = (project.path / "board.csv").read_text().splitlines()
    assert header.endswith("vs_linear,vs_linear_p")
    assert all(float(row.rpartition(",")[2]) <= 1 for row in rows)


def test_what_the_network_returns_has_no_tokens(run):
    refused = run(*ATTENTIVE, "--probe-site=output")
    refused.assert_outcomes(failed=1)
    refused.stdout.fnmatch_lines(
        ["*reads tokens, and output has none, as it is what the network returns: leave it out*"]
    )


def test_the_plan_has_the_tokens_and_says_what_the_probe_is_for(run):
    plan = run(*ATTENTIVE, "--probe-plan")
    assert plan.ret == 0
    # 240 images of 5 tokens, in bfloat16, and their means in float32; without output, which has no tokens.
    features = 240 * (2 * 5 + 4) * (2 * (6 * 8 + 2 * 32) + 2 * 8)
    plan.stdout.fnmatch_lines([f"tiny-blobs *18 *240 *{round(features / 1e3)} kB *memory *1 *"])
    plan.stdout.fnmatch_lines(["Probes on tokens are for a few taps on a GPU; *"])
    little = run(*TWO, "--probe-plan", "--probe-memory=20MB", "--probe-cache=off")
    assert little.ret == pytest.ExitCode.TESTS_FAILED


def test_the_protocol_is_listed_with_its_fields(capsys):
    from probebench.cli.main import main

    main(["protocols", "--json"])
    fields = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert fields["attentive@1"]["queries"] == 32
    assert fields["default@2"]["queries"] is None
