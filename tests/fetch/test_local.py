"""What is said about a dataset that is not on this machine, and what the catalog knows of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from probebench._format import human
from probebench.catalog import Archive, Catalog, DatasetSpec
from probebench.datasets import load
from probebench.errors import ProbebenchError, UnknownName
from probebench.fetch.local import NotOnDisk, data_root, missing, on_disk
from tests.datasets.ondisk import CATALOG, read

ON_DISK = [
    name for name, spec in CATALOG.datasets.items() if not spec.reader.startswith("probebench.datasets.embedded:")
]


def test_the_data_root_is_a_variable_or_a_folder_of_the_user(monkeypatch):
    monkeypatch.setenv("PROBEBENCH_DATA", "~/data")
    assert data_root() == Path.home() / "data"
    monkeypatch.setenv("PROBEBENCH_DATA", "")
    assert data_root() == Path.home() / ".cache" / "probebench" / "data"


@pytest.mark.parametrize("name", ON_DISK)
def test_every_catalogued_dataset_says_where_it_should_be_and_where_it_comes_from(root, name):
    with pytest.raises(NotOnDisk) as caught:
        read(name)
    spec, text = CATALOG.dataset(name), str(caught.value)
    assert text.startswith(f"dataset {name!r} is not on this machine: ")
    assert str(root) in text.partition("machine: ")[2].partition("PROBEBENCH_DATA")[0]
    assert "PROBEBENCH_DATA" in text
    assert spec.source in text
    assert spec.licence
    assert spec.archives
    assert all(archive.url in text for archive in spec.archives)
    assert f"probebench fetch {name} (" in text or all(archive.manual for archive in spec.archives)
    assert all(archive.manual in text for archive in spec.archives)


@pytest.mark.parametrize("name", ON_DISK)
def test_archives_say_what_they_make_and_where(name):
    for archive in CATALOG.dataset(name).archives:
        assert re.fullmatch("[0-9a-f]{32}|", archive.md5), archive
        assert archive.result.startswith(f"{archive.folder}/" if archive.folder else archive.result), archive
        packed = archive.filename.endswith((".tar", ".tgz", ".gz", ".zip"))
        assert bool(archive.makes) == packed or archive.manual, archive


def test_archives_of_one_address_agree_wherever_they_are_named():
    seen = {}
    for name in ON_DISK:
        for archive in CATALOG.dataset(name).archives:
            fields = (archive.md5, archive.size, archive.folder, archive.manual)
            assert seen.setdefault(archive.url, fields) == fields, name


def test_the_message_in_full(root):
    with pytest.raises(NotOnDisk) as caught:
        read("cifar10")
    assert str(caught.value) == (
        f"dataset 'cifar10' is not on this machine: folder {root}/cifar-10-batches-py does not exist. It should "
        "contain data_batch_1, data_batch_2, data_batch_3, data_batch_4, data_batch_5, test_batch, batches.meta. "
        "Run: probebench fetch cifar10 (170 MB: https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz). "
        "Official source: https://www.cs.toronto.edu/~kriz/cifar.html. "
        f"Datasets are read from {root}; set PROBEBENCH_DATA to use another folder."
    )


def test_what_no_program_can_fetch_is_said_to_be_got_by_hand(root):
    with pytest.raises(NotOnDisk) as caught:
        read("imagenet1k")
    assert (
        "Download https://image-net.org/data/ILSVRC/2012/ILSVRC2012_img_val.tar (6.7 GB) by hand (needs an account at "
        f"image-net.org) to create {root}/imagenet/val." in str(caught.value)
    )
    assert "probebench fetch" not in str(caught.value)


def test_a_dataset_is_on_disk_when_all_that_its_archives_make_is_there(root):
    spec = CATALOG.dataset("flowers102")
    assert not on_disk(spec)
    (root / "flowers-102" / "jpg").mkdir(parents=True)
    (root / "flowers-102" / "setid.mat").touch()
    assert [archive.filename for archive in missing(spec)] == ["imagelabels.mat"]
    (root / "flowers-102" / "imagelabels.mat").touch()
    assert on_disk(spec)


def test_a_dataset_without_archives_needs_nothing():
    assert on_disk(CATALOG.dataset("digits"))


def test_an_archive_that_was_not_unpacked_is_checked(root):
    archive = root / "cifar-10-python.tar.gz"
    archive.write_bytes(b"whole")
    with pytest.raises(NotOnDisk, match=r"cifar-10-python\.tar\.gz is damaged or a different file: .* delete it"):
        read("cifar10")
    md5 = hashlib.md5(b"whole").hexdigest()
    spec = replace(CATALOG.dataset("cifar10"), archives=(Archive("https://example.org/cifar-10-python.tar.gz", md5),))
    with pytest.raises(NotOnDisk, match=r"cifar-10-python\.tar\.gz is complete; unpack it to create"):
        load(spec)


def test_an_archive_is_looked_for_where_it_would_be_unpacked(root):
    (root / "flowers-102").mkdir()
    (root / "flowers-102" / "102flowers.tgz").write_bytes(b"cut off")
    with pytest.raises(NotOnDisk, match=r"flowers-102/102flowers\.tgz is damaged or a different file"):
        read("flowers102")


def test_a_part_that_is_missing_is_named(cifar10):
    (cifar10 / "data_batch_4").unlink()
    with pytest.raises(NotOnDisk, match=r"cifar-10-batches-py is incomplete: data_batch_4 not found\. It should"):
        read("cifar10")


@pytest.mark.parametrize(
    ("size", "text"), [(502, "502 B"), (1200, "1.2 kB"), (170_498_071, "170 MB"), (147_897_477_120, "148 GB")]
)
def test_sizes_as_people_write_them(size, text):
    assert human(size) == text


def test_suites_are_lists_of_known_datasets_under_names_of_their_own():
    assert not CATALOG.suites.keys() & CATALOG.datasets.keys()
    assert {name: len(datasets) for name, datasets in CATALOG.suites.items()} == {
        "embedded": 6,
        "paper": 11,
        "corruptions": 19,
        "clip": 21,
    }
    for datasets in CATALOG.suites.values():
        assert all(name in CATALOG.datasets for name in datasets)


def test_severities_are_names_where_a_dataset_has_them():
    assert CATALOG.dataset("cifar10_c_snow").kwargs["severity"] == 5
    assert CATALOG.dataset("cifar100_c_snow_s2").kwargs["severity"] == 2
    assert CATALOG.dataset_names("cifar10_within_snow_s1") == ("cifar10_within_snow_s1",)
    for name in ("cifar10_s2", "cifar10_c_snow_s6", "cifar10_c_snow_s"):
        with pytest.raises(UnknownName, match=f"unknown dataset '{name}'"):
            CATALOG.dataset(name)


def test_severities_reach_datasets_that_a_plugin_adds():
    spec = DatasetSpec("mine", "conftest:reader", {"severity": 1})
    catalog = Catalog.default().extend(datasets=[spec])
    assert catalog.dataset("mine_s4").kwargs == {"severity": 4}


def test_texts_of_the_catalog_are_filled_in():
    fog = CATALOG.dataset("cifar10_c_fog")
    assert fog.kwargs == {"base": "cifar10", "corruption": "fog", "severity": 5}
    assert "under fog;" in fog.note
    assert not any("{" in spec.note + spec.name + spec.source for spec in CATALOG.datasets.values())


def test_the_metric_is_one_of_two():
    with pytest.raises(ProbebenchError, match="dataset 'd': metric must be top1 or mean_per_class, got 'top5'"):
        DatasetSpec("d", "m:f", metric="top5")


def test_the_documentation_has_every_dataset():
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    corruptions = "|".join(name.removeprefix("cifar10_c_") for name in CATALOG.dataset_names("corruptions"))
    for name in ON_DISK:
        assert re.sub(f"_({corruptions})$", "_CORRUPTION", name) in text, name
    assert all(f"`{corruption}`" in text for corruption in corruptions.split("|"))
