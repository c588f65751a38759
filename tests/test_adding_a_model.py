"""The recipes of docs/adding-a-model.md, each followed to the letter; a small dataset stands in for the named one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import tomlkit
from safetensors.torch import save_file

from probebench.catalog import ModelSpec
from probebench.models import layouts
from probebench.models.timm_spec import complete_spec
from tests.conftest import TINY_CONFTEST

DOCS = Path(__file__).parent.parent / "docs" / "adding-a-model.md"
_, *SECTIONS = re.split("^## ", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
SECTION = {section.partition("\n")[0]: section for section in SECTIONS}
TABLE = re.search("```toml\n(.*?)```", SECTION["A model for the catalog"], re.DOTALL)[1]
# The tiny project's datasets, and not its models.
BLOBS = TINY_CONFTEST.replace("def pytest_probebench_models", "def _models").replace("n=120", "n=6")


@pytest.fixture
def follow(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Save the snippets of a section and run its cases."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(title: str, *args: str) -> pytest.RunResult:
        for file, text in re.findall(r"`([\w.]+)`:\n```\w+\n(.*?)```", SECTION[title], re.DOTALL):
            text = text.replace('"digits"', '"blobs"') + (BLOBS if file == "conftest.py" else "")
            (pytester.path / file).write_text(text, encoding="utf-8")
            if file.startswith("save_"):
                exec(compile(text, file, "exec"), {})
        if not (pytester.path / "conftest.py").exists():
            pytester.makeconftest(BLOBS)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", "test_own.py", *args)

    return run


def test_a_model_of_timm(follow, hub, tmp_path):
    (name,) = set(re.findall(r"timm:([\w.]+)", SECTION["A model of timm"]))
    save_file(timm.create_model(name).state_dict(), tmp_path / "w.safetensors")
    hub.files[f"/timm/{name}/resolve/main/model.safetensors"] = (tmp_path / "w.safetensors").read_bytes()
    result = follow("A model of timm", "-k", "timm", "--probe-layer=final")
    result.assert_outcomes(passed=1)


FEW = ("--probe-layer=6,final,output", "--probe-site=act,rc2,final,output")


def test_weights_of_ones_own(follow):
    result = follow("Weights of your own", *FEW, "--probe-update=new")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["my_vit, my_vit_random: 224 px, bicubic, mean 0.5, std 0.5*"])


def test_a_network_of_ones_own(follow, pytester):
    mark = (
        '@pytest.mark.probe(model=["mine", "mine_random"], dataset="blobs", layer=[12, "final"], site=["act", "final"])'
    )
    pytester.makepyfile(test_own=f"import pytest\n{mark}\ndef test_probe(probe): probe.check()\n")
    follow("A network of your own").assert_outcomes(passed=4)
    exec(re.findall(r"```python\n(from probebench.*?)```", SECTION["A network of your own"], re.DOTALL)[-1], {})
    layouts._registered.clear()
    layouts._networks.clear()


def test_a_model_for_the_catalog():
    ((name, table),) = tomlkit.parse(
        re.search("```toml\n(.*?)```", SECTION["A model for the catalog"], re.DOTALL)[1]
    ).items()
    spec = complete_spec(ModelSpec(name, **table.unwrap()))
    assert spec.complete
    assert spec.licence == "apache-2.0"


def test_the_tool_fills_in_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(DOCS.parent.parent / "tools"))
    import model_facts

    (tmp_path / "models.toml").write_text("# kept\n" + TABLE + "depth = 13\n", encoding="utf-8")
    monkeypatch.setattr(model_facts, "FILE", tmp_path / "models.toml")
    model_facts.main()
    text = (tmp_path / "models.toml").read_text(encoding="utf-8")
    assert text.startswith("# kept\n")
    table = tomlkit.parse(text)["augreg_in1k_s16"]
    assert (table["width"], table["crop"], table["depth"]) == (384, 0.9, 13)
    assert capsys.readouterr().out == "augreg_in1k_s16: depth is 13, timm says 12\n"
