"""Check the workflows of .github/ and of `probebench init` against the part of GitHub's syntax that they use."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.commands import check, split

FOLDER = Path(__file__).parent.parent / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
PROBES = sorted(FOLDER.glob("probe-*.yml"))
OF_INIT = Path(__file__).parent.parent / "probebench" / "cli" / "project" / "probebench.yml"

STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def table(required=(), **properties):
    return {
        "type": "object",
        "properties": {name.replace("_", "-"): value for name, value in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


STEP = {
    "oneOf": [
        table(
            ["uses"],
            uses={"type": "string", "pattern": r"^actions/[a-z-]+@v\d+$"},
            **{"if": {"type": "string"}, "with": {"type": "object", "additionalProperties": {"type": "string"}}},
        ),
        table(["name", "run"], name={"type": "string"}, run={"type": "string"}, **{"if": {"type": "string"}}),
    ]
}
JOB = table(
    ["runs-on", "timeout-minutes", "steps"],
    runs_on={"oneOf": [{"enum": ["ubuntu-latest"]}, STRINGS]},
    timeout_minutes={"type": "integer", "minimum": 1, "maximum": 360},
    steps={"type": "array", "items": STEP, "minItems": 1},
)
EVENTS = table(
    push=table(branches=STRINGS),
    pull_request={"type": "null"},
    workflow_dispatch={"type": "null"},
    schedule={"type": "array", "items": table(["cron"], cron={"type": "string", "pattern": r"^(\S+ ){4}\S+$"})},
)
EVENTS["properties"] = {name.replace("-", "_"): value for name, value in EVENTS["properties"].items()}
WORKFLOW = table(
    ["name", "on", "permissions", "jobs"],
    name={"type": "string"},
    on=EVENTS,
    # No workflow here needs to write.
    permissions={"const": {"contents": "read"}},
    concurrency=table(["group"], group={"type": "string"}, cancel_in_progress={"type": "boolean"}),
    env={"type": "object", "additionalProperties": {"type": "string"}},
    jobs={"type": "object", "additionalProperties": JOB, "minProperties": 1},
)


class Loader(yaml.SafeLoader):
    """Read YAML 1.2 as GitHub does: `on` is a word, not true."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def steps(path):
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def test_there_is_one_for_each_kind_of_runner():
    assert [path.name for path in PROBES] == ["probe-cpu.yml", "probe-gpu.yml"]
    cpu, gpu = map(load, PROBES)
    assert cpu["jobs"]["probe"]["runs-on"] == "ubuntu-latest"
    assert {"self-hosted", "gpu"} <= set(gpu["jobs"]["probe"]["runs-on"])
    assert "pull_request" not in gpu["on"]


@pytest.mark.parametrize("path", [*FILES, OF_INIT], ids=lambda path: path.stem)
def test_a_workflow_has_the_shape_that_github_expects(path):
    jsonschema.validate(load(path), WORKFLOW)


@pytest.mark.parametrize("path", [*FILES, OF_INIT], ids=lambda path: path.stem)
def test_expressions_name_what_there_is(path):
    text = path.read_text(encoding="utf-8")
    known = r"vars\.\w+|github\.ref|runner\.os|!cancelled\(\)|hashFiles\('([^']+)'\)"
    for expression in re.findall(r"\${{\s*(.*?)\s*}}", text):
        match = re.fullmatch(known, expression)
        assert match, expression
        if match[1]:
            assert list(FOLDER.parent.parent.glob(match[1])), f"no file {match[1]}"


@pytest.mark.parametrize("path", [*PROBES, OF_INIT], ids=lambda path: path.stem)
def test_commands_exist_and_what_they_write_is_kept(path, pytestconfig):
    ours = [words for step in steps(path) for words in split(step.get("run", "")) if check(words, pytestconfig)]
    assert [words[0] for words in ours] == ["probebench", "pytest"]
    options = dict(word.split("=") for word in ours[1] if "=" in word)
    assert "--probe-strict" in ours[1]
    (upload,) = (step["with"] for step in steps(path) if step.get("uses", "").startswith("actions/upload-artifact"))
    record = options["--probe-json"]
    assert upload["path"].split() == [
        options["--junitxml"],
        record,
        record.replace(".json", ".correct.safetensors"),
        options["--probe-report"],
    ]


def test_the_site_is_built_as_contributors_build_it():
    path = FOLDER / "docs.yml"
    contributing = (FOLDER.parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    install, build = (step["run"] for step in steps(path) if "run" in step)
    assert f"{install} && {build} " in contributing
    (upload,) = (step["with"] for step in steps(path) if step.get("uses", "").startswith("actions/upload-artifact"))
    assert upload["path"] == build.split()[-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda workflow: workflow.pop("permissions"),
        lambda workflow: workflow.update(permissions={"contents": "write"}),
        lambda workflow: workflow["on"].update(pull_requests=None),
        lambda workflow: workflow["jobs"]["probe"].update(runs_on="x"),
        lambda workflow: workflow["jobs"]["probe"]["steps"].append({"name": "both", "run": "x", "uses": "a/b@v1"}),
        lambda workflow: workflow["jobs"]["probe"]["steps"].append({"uses": "actions/cache"}),
    ],
)
def test_mistakes_are_found(change):
    workflow = load(PROBES[0])
    change(workflow)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(workflow, WORKFLOW)


def test_commands_that_do_not_exist_are_found(pytestconfig):
    for wrong in ("probebench fecth x", "probebench show", "pytest --probe-strikt", "probebench compare a b --alhpa 1"):
        with pytest.raises(pytest.fail.Exception):
            check(split(wrong)[0], pytestconfig)
    assert not check(["pip", "install"], pytestconfig)
