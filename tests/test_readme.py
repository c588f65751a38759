"""Test that the README's commands exist and that its examples work."""

from __future__ import annotations

import re
from pathlib import Path

from tests.commands import check, split

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_ci_runs_the_two_commands():
    main_job, tests = (block.strip() for block in blocks("bash")[:2])
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert main_job == "pip install -e . && pytest benchmarks/"
    assert f"{main_job} --probe-strict\n" in ci
    assert f"{tests}\n" in ci


def test_every_option_that_the_documents_name_exists(pytestconfig):
    known = {name for option in pytestconfig._parser._groups for o in option.options for name in o.names()}
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for option in set(re.findall(r"(?<![\w-])--probe-[a-z-]+[a-z]", path.read_text(encoding="utf-8"))):
            assert option in known, f"{path.name} names {option}"


def test_every_command_that_the_documents_name_exists(pytestconfig):
    ours = []
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        commands = [words for block in re.findall(r"```bash\n(.*?)```", text, re.S) for words in split(block)]
        ours += [words[:2] for words in commands if check(words, pytestconfig)]
        for command in re.findall(r"`probebench ([a-z]+)[ `]", text):
            check(["probebench", command, "--help"], pytestconfig)
    for command in ("show", "leaderboard", "compare", "fetch"):
        assert ["probebench", command] in ours


def test_the_case_file_of_the_readme_works(pytester):
    case_file, *_ = blocks("python")
    pytester.makepyfile(test_case=case_file)
    result = pytester.runpytest_inprocess("--probe-layer=final", "--probe-jobs=1")
    result.assert_outcomes(passed=2)


def test_the_python_example_of_the_readme_works(capsys):
    _, example, _ = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["L06-act", "L12-rc2"]


def test_the_estimator_example_of_the_readme_works(capsys):
    *_, example = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    score, gap = map(float, capsys.readouterr().out.split())
    assert score > 0.9
    assert gap <= 1e-6
