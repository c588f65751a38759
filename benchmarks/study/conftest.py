"""A real network and real images: the ViT-S/14, the subset of CIFAR-10 and PACS that `study_data` describes."""

from __future__ import annotations

from study_data import CORRUPTIONS, DOMAINS, FOLDER, MODEL, WEIGHTS, severities

from probebench import DatasetSpec, ModelSpec


def pytest_probebench_models():
    # 98 pixels are 7 x 7 patches. At the 518 of the pretraining an image would take thirty times as long.
    return ModelSpec(
        MODEL,
        "vit_small_patch14_dinov2.lvd142m",
        checkpoint=str(FOLDER / WEIGHTS),
        kwargs={"img_size": 98},
        pretraining="DINOv2 (LVD-142M), tuned to find salient regions",
        reference="pacs_photo",  # There is no sample of LVD-142M. These are photographs from the web, as LVD-142M is.
        licence="MIT",
    )


# How far images are from photographs, which the network was pretrained on. Said before anything was measured, by what
# the images show: paintings and cartoons, and severities 1 and 2, keep colours and textures; sketches, and severities 3
# to 5, do not.
SHIFTS = {"photo": "none", "art_painting": "shift", "cartoon": "shift", "sketch": "strong"}


def pytest_probebench_datasets():
    source = "https://www.cs.toronto.edu/~kriz/cifar.html"
    yield DatasetSpec("cifar10_small", "study_data:cifar10", shift="none", source=source, note="subset of CIFAR-10")
    for corruption in CORRUPTIONS:
        for severity, suffix in severities(corruption).items():
            for kind, train in (("c", "clean"), ("within", "corrupted")):
                yield DatasetSpec(
                    f"cifar10_small_{kind}_{corruption}{suffix}",
                    "study_data:cifar10",
                    {"corruption": corruption, "severity": severity, "train": train},
                    shift="shift" if severity < 3 else "strong",
                    clean="cifar10_small",
                    source=source,
                    note=f"subset of CIFAR-10 under {corruption}, severity {severity}; trained on {train} images",
                )
    for domain in DOMAINS:
        yield DatasetSpec(
            f"pacs_{domain}",
            "probebench.datasets.unsplit:unsplit_folder",
            {"folder": str(FOLDER / "pacs" / domain), "test_every": 3},
            shift=SHIFTS[domain],
            clean="" if domain == "photo" else "pacs_photo",
            source="https://arxiv.org/abs/1710.03077",
            note=f"the domain {domain} of PACS, 7 classes",
        )
