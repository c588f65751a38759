from __future__ import annotations

import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.datasets.domainnet import DOMAINS
from probebench.errors import DataError, UnknownName
from tests.datasets.ondisk import CATALOG, jpeg, read


def write(root, domain, train, test):
    for split, lines in (("train", train), ("test", test)):
        names = [f"{domain}/{name}/{domain}_{label:03d}_{i:06d}.jpg {label}" for i, (name, label) in enumerate(lines)]
        (root / "domainnet").mkdir(exist_ok=True)
        (root / "domainnet" / f"{domain}_{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for line in names:
            jpeg(root / "domainnet" / line.split()[0], "green")


def test_a_domain_by_its_official_lists(root):
    write(root, "sketch", [("alarm_clock", 1), ("airplane", 0), ("airplane", 0)], [("alarm_clock", 1)])
    data = read("domainnet_sketch")
    assert list(data.classes) == ["airplane", "alarm clock"]
    assert data.train.labels.tolist() == [1, 0, 0]
    assert data.train.images.names[0] == "sketch/alarm_clock/sketch_001_000000.jpg"
    assert data.test.images[0].shape == (16, 20, 3)


def test_t_shirts_are_left_out_of_painting_for_nothing_trains_them(root):
    train = [("syringe", 0), ("tree", 2)]
    write(root, "painting", train, [("t-shirt", 1), ("tree", 2)])
    data = read("domainnet_painting")
    assert list(data.classes) == ["syringe", "t-shirt", "tree"]
    assert data.test.labels.tolist() == [2]
    write(root, "clipart", train, [("t-shirt", 1), ("tree", 2)])
    assert read("domainnet_clipart").test.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("real/cat/one.jpg", r"real_test\.txt, line 2: expected 2 columns"),
        ("real/one.jpg 0", "line 2: expected domain/class/image, got 'real/one.jpg'"),
        ("real/../one.jpg 0", "line 2: expected domain/class/image"),
        ("real/dog/one.jpg 0", "line 2: label 0 is 'dog' here but 'cat' before"),
        ("real/dog/one.jpg 2", "no line has label 1"),
    ],
)
def test_lines_that_read_otherwise_are_named(root, line, message):
    write(root, "real", [("cat", 0)], [("cat", 0)])
    with (root / "domainnet" / "real_test.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=rf"dataset 'domainnet_real': .*{message}"):
        read("domainnet_real")


def test_domains_are_six(root):
    assert all(f"domainnet_{domain}" in CATALOG.datasets for domain in DOMAINS)
    with pytest.raises(UnknownName, match="unknown domain 'draw'"):
        load(DatasetSpec("d", "probebench.datasets.domainnet:domainnet", {"domain": "draw"}))
