"""What is not on this machine: no test of a bare run, downloaded when asked for by name, told at the end."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET

import pytest
import timm
from safetensors.torch import save_file

from probebench.fetch.hub import needs_download
from probebench.records import run_record
from tests.conftest import ONE_COUNT
from tests.datasets.ondisk import CIFAR10, batch, python2_pickle
from tests.hub import at

CASES = """
import pytest

@pytest.mark.probe(model=["vit_b16", "vit_b16_random", "mae_b16"], dataset="paper")
def test_paper(probe):
    probe.check()

@pytest.mark.probe(model="tiny", dataset="blobs")
def test_probe(probe):
    probe.check()
"""
VIT_B = "  vit_b16  2,178 cases  343 MB + 11 datasets *  probebench fetch vit_b16 paper"
MAE_B = "  mae_b16  1,089 cases  343 MB + 11 datasets *  probebench fetch mae_b16 paper"
TOGETHER = (
    "Not on this machine: tiny (2 models); name a model to download it (-k NAME), or run `probebench fetch NAME`*"
)


@pytest.fixture
def bare(project, run, tmp_path, monkeypatch, hub):
    """A project with models that are not here, no data, and a hub that has nothing."""
    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path / "data"))
    project.makepyfile(test_tiny=CASES)
    return run


def test_a_bare_run_downloads_nothing_and_tells_one_line_a_file(bare, hub):
    result = bare("-q")
    result.assert_outcomes(passed=ONE_COUNT, deselected=1)
    result.stdout.fnmatch_lines([TOGETHER])
    result.stdout.no_fnmatch_line("Skipped*")
    assert hub.requests == []
    result = bare("-v", "--collect-only")
    result.stdout.fnmatch_lines(["Skipped (*", VIT_B, MAE_B], consecutive=True)
    result.stdout.no_fnmatch_line("Not on this machine*")


def test_what_is_withheld_is_no_test_and_told_by_collect_only(bare):
    result = bare("--collect-only", "-q")
    result.stdout.fnmatch_lines([TOGETHER])
    result.stdout.no_fnmatch_line("*test_paper*")
    lines = bare("--collect-only", "-q", "-k", "vit_b16-cifar10-L06").stdout.lines
    assert sum("test_paper[vit_b16-cifar10-L06" in line for line in lines) == 8
    assert sum("::" in line for line in lines) == 8


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_a_run_of_nothing_but_withheld_cases_ends_well(bare, project, workers):
    result = bare("-k", "cifar100", "--probe-json=r.json", *workers)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([TOGETHER])
    withheld = run_record.load(project.path / "r.json")["withheld"]
    assert [(each["model"], each["cases"]) for each in withheld] == [("vit_b16", 2 * 99), ("mae_b16", 99)]
    assert bare("-k", "no_such_name", *workers).ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    "args",
    [
        ["-k", "blobs"],
        ["-k", "paper and blobs"],
        ["-m", "probe(dataset='blobs')"],
        ["test_tiny.py::test_probe"],
        ["test_tiny.py::test_probe[tiny-blobs-final]"],
    ],
    ids=" ".join,
)
def test_other_tests_do_not_hear_of_it(bare, args):
    bare("--collect-only", *args).stdout.no_fnmatch_line("*probebench fetch*")


@pytest.mark.parametrize("args", [["-k", "vit_b16"], ["--probe-model=vit_b16,vit_b16_random"]])
def test_a_name_without_a_network_ends_in_seconds_with_the_summary(bare, monkeypatch, args):
    at(monkeypatch, "http://127.0.0.1:9")
    start = time.monotonic()
    result = bare(*args, "--probe-site=act,rc2", "-q")
    assert time.monotonic() - start < 60
    result.assert_outcomes(skipped=22 * 24, deselected=result.parseoutcomes().get("deselected", 0))
    result.stdout.fnmatch_lines(["WARNING: *weights of model 'vit_b16' could not be downloaded: no network*"])
    result.stdout.fnmatch_lines(["  vit_b16  528 cases  343 MB + 11 datasets *  probebench fetch vit_b16 paper"])


def test_offline_is_honoured_without_asking(bare, hub):
    result = bare("-k", "vit_b16", "--probe-offline", "--probe-site=final")
    result.stdout.fnmatch_lines([VIT_B.replace("2,178", "22")])
    assert hub.requests == []


@pytest.mark.parametrize(
    "args",
    [
        ["-k", "vit_b16-cifar10-L06-act"],
        ["-m", 'probe(model="vit_b16", dataset="cifar10", layer=6, site="act")'],
        ["test_tiny.py::test_paper[vit_b16-cifar10-L06-act]"],
    ],
)
def test_what_is_asked_for_is_skipped_by_its_cases_and_fails_under_strict(bare, args):
    result = bare("--probe-offline", *args)
    assert result.parseoutcomes()["skipped"] == 1
    result.stdout.fnmatch_lines(["*probebench fetch vit_b16 cifar10"])
    assert bare("--probe-offline", "--probe-strict", *args).ret == pytest.ExitCode.TESTS_FAILED


def test_outputs_that_were_named_are_written_though_nothing_was_measured(bare, project):
    outputs = ("--probe-json=r.json", "--probe-leaderboard-file=l.csv")
    bare("-k", "mae_b16-cifar10", "--probe-offline", "--probe-site=final", *outputs)
    assert run_record.load(project.path / "r.json")["cases"] == []
    assert (project.path / "l.csv").read_text().startswith("dataset,")


def test_a_mistake_in_a_spec_is_a_usage_error(bare, project):
    text = (project.path / "conftest.py").read_text()
    spec = 'ModelSpec("typo", "vit_tyni_patch16_224.augreg_in21k", 12, "timm", 16, (0.5,) * 3, (0.5,) * 3)'
    project.makeconftest(text.replace("return [model(", f"return [{spec}, model("))
    project.makepyfile(test_tiny=CASES.replace('model="tiny"', 'model="typo"'))
    for args in ([], ["-q"]):
        result = bare("-k", "typo", *args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*unknown timm architecture 'vit_tyni_patch16_224'. Did you mean*"])


def test_a_control_of_a_model_that_is_not_there_is_told_under_its_own_name(bare, project):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text.replace('control_of="tiny"', 'control_of="nowhere"'))
    project.makepyfile(
        test_tiny=CASES.replace('model="tiny", dataset="blobs"', 'model="tiny_other", dataset="cifar10"')
    )
    bare("-k", "tiny_other", "--probe-offline").stdout.fnmatch_lines(
        [f"  tiny_other  {ONE_COUNT} cases  1 dataset 170 MB*"]
    )


def test_strict_fails_what_was_asked_for_and_could_not_be_had_with_one_explanation(bare, project):
    args = ("--probe-strict", "--probe-offline", "--probe-model=vit_b16", "--probe-dataset=cifar10")
    result = bare(*args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["vit_b16-cifar10 was requested but could not be measured: not on this machine"])
    result.stdout.fnmatch_lines(["*1 error, 98 not measured*"])
    assert result.stdout.str().count("ERROR at setup of") == 1
    result = bare(*args, "-n2", "--junitxml=j.xml")
    result.stdout.fnmatch_lines(["*1 error, 98 not measured*"])
    assert 'errors="99"' in (project.path / "j.xml").read_text()  # to machines all of them
    bare("--probe-strict", "--probe-update=new").assert_outcomes(passed=ONE_COUNT, deselected=1)


def test_a_hub_that_refuses_is_a_failure_and_not_a_skip(bare, hub):
    hub.status = 404
    result = bare("--probe-model=vit_b16", "--probe-dataset=cifar10", "--probe-site=act")
    result.stdout.fnmatch_lines(["sweep vit_b16-cifar10 could not be measured.", "FetchError: *status 404*"])
    result.assert_outcomes(failed=1)


def test_licences_are_refused_and_the_reason_told(bare, monkeypatch):
    result = bare("-k", "cifar10", "--probe-licence=commercial", "--probe-site=act,final")
    result.stdout.fnmatch_lines(
        ["licence cc-by-nc-4.0, refused by --probe-licence=commercial: tiny (1 model); -v lists all"]
    )
    result = bare("-k", "mae_b16", "--probe-licence=commercial", "--probe-site=act,final")
    result.stdout.fnmatch_lines(["  mae_b16  143 cases  licence cc-by-nc-4.0, refused by --probe-licence=commercial"])
    result.assert_outcomes(skipped=143)


@pytest.mark.parametrize("workers", [[], ["-n2"], ["--collect-only"]], ids=["alone", "workers", "collecting"])
def test_a_licence_that_no_model_has_is_a_usage_error(bare, project, workers):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text.replace('control_of="tiny"', 'control_of="tiny", licence="Own-1.0"'))
    result = bare("--probe-licence=mit,apche-2.0", *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown licence 'apche-2.0'. Did you mean 'apache-2.0'*Known: apache-2.0, *, own*"])
    assert not (project.path / ".probebench" / "runs").exists()
    if "--collect-only" in workers:
        return
    # Those of models that plugins add or that only marks name are known.
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model=["tiny", "timm:vit_base_patch16_dinov3_qkvb.eupe_lvd1689m"], dataset="blobs")
        def test_probe(probe):
            probe.check()
        """
    )
    odd = "OWN-1.0,fair-noncommercial-research-license"
    bare(f"--probe-licence={odd}", "--probe-site=final", *workers).assert_outcomes(passed=1)


@pytest.fixture
def cifar10(tmp_path):
    """A CIFAR-10 of seven images of two classes in the data root."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    for i in range(1, 6):
        python2_pickle(folder / f"data_batch_{i}", batch([i % 2], "labels", seed=i))
    python2_pickle(folder / "test_batch", batch(range(2), "labels", seed=9))
    python2_pickle(folder / "batches.meta", {"label_names": CIFAR10})


def test_weights_are_downloaded_by_name_and_cases_run(bare, project, hub, cifar10, tmp_path):
    name = "vit_tiny_patch16_224.augreg_in21k"
    net = timm.create_model(name, pretrained=False)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    hub.files[f"/timm/{name}/resolve/main/model.safetensors"] = (tmp_path / "w.safetensors").read_bytes()
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model=["augreg_ti16", "timm:*"], dataset="cifar10")
        def test_probe(probe):
            probe.check()
        """
    )
    bare("--probe-site=final").assert_outcomes(deselected=1)
    assert hub.requests == []
    result = bare("--probe-site=final", "--probe-model=augreg_ti16", "--probe-json=r.json", "--probe-update=new")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "augreg_ti16: vit_tiny_patch16_224.augreg_in21k, licence apache-2.0; 224 px, bicubic, mean 0.5, std 0.5, "
            "crop 100% (the weights were evaluated at 90%); otherwise as the weights declare"
        ]
    )
    asked = len(hub.requests)
    # From now on it is here: a bare run measures it, and timm's own name for it gives the same network.
    bare("--probe-site=final").assert_outcomes(passed=1)
    result = bare("--probe-site=final", f"--probe-model=timm:{name}", "--probe-json=t.json")
    result.assert_outcomes(passed=1)
    assert len(hub.requests) == asked
    # Weights of one's own can be named for it, too.
    (project.path / "gone.pt").write_bytes(b"not weights")
    result = bare("--probe-site=final", f"--probe-model=timm:{name}", f"--probe-weights=timm:{name}=gone.pt")
    result.stdout.fnmatch_lines(["*WeightsError: *gone.pt*neither a safetensors file nor one of torch.save*"])
    result = bare("--probe-site=final", f"--probe-model=timm:{name}", "--probe-strict")
    result.stdout.fnmatch_lines([f"*To store one: pytest --probe-model=timm:{name} *"])
    first, second = (run_record.load(project.path / file)["sweeps"][0] for file in ("r.json", "t.json"))
    assert second["model"] == "timm_vit_tiny_patch16_224_augreg_in21k"
    assert first["weights"] == second["weights"]
    result = bare("--probe-site=final", "--probe-protocol=paper@1")
    result.stdout.fnmatch_lines(["*WARNING: resizing bilinear, where the weights declare bicubic; WARNING: mean *"])


def test_a_control_runs_all_taps_on_a_dataset_on_disk(bare, project, cifar10):
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model=["vit_b16", "vit_b16_random"], dataset="cifar10")
        def test_probe(probe):
            probe.check()
        """
    )
    bare().assert_outcomes(deselected=1)
    bare("-k", "vit_b16_random").assert_outcomes(passed=99)


def test_a_model_of_timm_that_only_a_mark_names_is_known_beside_workers(bare, project):
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model=["tiny", "timm:vit_tiny_patch16_224.augreg_in21k"], dataset="blobs")
        def test_probe(probe):
            probe.check()
        """
    )
    result = bare("--probe-site=final", "-n2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["Not on this machine: tiny (1 model); *"])
    result = bare("--probe-site=final", "-n2", "-v")
    result.stdout.fnmatch_lines(["  timm_vit_tiny_patch16_224_augreg_in21k  1 case *  probebench fetch timm:vit_tiny*"])


def test_machines_get_the_reason(bare, project):
    bare("--junitxml=j.xml", "-k", "mae_b16-cifar100", "--probe-offline")
    skipped = ET.parse(project.path / "j.xml").getroot().iter("skipped")
    assert {each.get("message") for each in skipped} == {"not on this machine"}


def test_the_commercial_licences_are_those_without_terms_of_their_own():
    from probebench.catalog import builtin_models
    from probebench.measure.availability import _COMMERCIAL_LICENCES

    used = {spec.licence for spec in builtin_models().values() if needs_download(spec)}
    assert used - _COMMERCIAL_LICENCES == {"cc-by-nc-4.0", "dinov3-license", "apple-ascl"}
