"""A real network and real images: the ViT-S/14, the subset of CIFAR-10 and PACS that `study_data` describes."""

from __future__ import annotations

from study_data import CORRUPTIONS, DOMAINS, FOLDER, WEIGHTS

from probebench import DatasetSpec, ModelSpec


def pytest_probebench_models():
    # 98 pixels are 7 x 7 patches. At the 518 of the pretraining an image would take thirty times as long.
    return ModelSpec(
        "vit_s14_focus",
        "vit_small_patch14_dinov2.lvd142m",
        checkpoint=str(FOLDER / WEIGHTS),
        kwargs={"img_size": 98},
        pretraining="DINOv2 (LVD-142M), tuned to find salient regions",
        licence="MIT",
    )


def pytest_probebench_datasets():
    source = "https://www.cs.toronto.edu/~kriz/cifar.html"
    yield DatasetSpec("cifar10_small", "study_data:cifar10", source=source, note="subset of CIFAR-10")
    for corruption in CORRUPTIONS:
        # A name that ends in _s1 to _s5 has that severity.
        for name, train in (("c", "clean"), ("within", "corrupted")):
            yield DatasetSpec(
                f"cifar10_small_{name}_{corruption}",
                "study_data:cifar10",
                {"corruption": corruption, "severity": 5, "train": train},
                clean="cifar10_small",
                source=source,
                note=f"subset of CIFAR-10 under {corruption}, trained on {train} images",
            )
    for domain in DOMAINS:
        yield DatasetSpec(
            f"pacs_{domain}",
            "probebench.datasets.unsplit:unsplit_folder",
            {"folder": str(FOLDER / "pacs" / domain), "test_every": 3},
            clean="" if domain == "photo" else "pacs_photo",
            source="https://arxiv.org/abs/1710.03077",
            note=f"the domain {domain} of PACS, 7 classes",
        )
