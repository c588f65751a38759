"""Features to compare probes on: of a network of the catalog, or of a network and images of your own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from probebench import all_taps, datasets
from probebench.catalog import ModelSpec
from probebench.catalog.taps import Tap
from probebench.datasets import Split
from probebench.datasets.views import Views
from probebench.features.batching import BatchSize
from probebench.features.forward import extract
from probebench.features.settings import ExtractionSettings
from probebench.models import default_catalog
from probebench.models.build import build_model
from probebench.models.timm_spec import complete_spec


@dataclass(frozen=True)
class Features:
    """Features of some taps.

    Attributes:
        name: of the network and the images
        seen, unseen: by tap, float32, shape (images, width), of the training and of the test images
        train, test: the images and their labels
    """

    name: str
    seen: Mapping[Tap, npt.NDArray[np.float32]]
    unseen: Mapping[Tap, npt.NDArray[np.float32]]
    train: Split
    test: Split


def add_arguments(parser: argparse.ArgumentParser, *, every: int, dataset: list[str]) -> None:
    """Add the options that `read_features` reads, with these defaults."""
    parser.add_argument("--every", type=int, default=every, help="every how many taps are probed")
    parser.add_argument("--model", default="glyphvit", help="of the catalog")
    parser.add_argument("--dataset", nargs="+", default=dataset, help="of the catalog")
    parser.add_argument("--checkpoint", type=Path, help="weights of a network of your own, in place of --model")
    parser.add_argument("--architecture", help="its name in timm")
    parser.add_argument("--size", type=int, help="its input size in pixels")
    parser.add_argument("--images", type=Path, help="npz file with x_train, y_train, x_test, y_test")


def read_features(args: argparse.Namespace) -> Iterator[Features]:
    """Yield the features of each dataset in turn."""
    if args.checkpoint:
        given = ModelSpec("mine", args.architecture, checkpoint=args.checkpoint, kwargs={"img_size": args.size})
        with np.load(args.images, allow_pickle=False) as stored:
            names = np.unique(stored["y_train"])
            train, test = (
                Split(stored[f"x_{part}"], np.searchsorted(names, stored[f"y_{part}"])) for part in ("train", "test")
            )
        yield _extract(args.images.stem, complete_spec(given), train, test, args.every)
        return
    catalog = default_catalog()
    for name in args.dataset:
        data = datasets.load(catalog.dataset(name))
        yield _extract(f"{args.model} on {name}", catalog.model(args.model), data.train, data.test, args.every)


def _extract(name: str, spec: ModelSpec, train: Split, test: Split, every: int) -> Features:
    net = build_model(spec)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    settings = ExtractionSettings("mean", mean, std, BatchSize(128), "cpu")
    taps, size = all_taps(spec.depth)[::every], spec.input_size or 224
    seen, unseen = (
        extract(net, Views(part, np.arange(len(part)), "resize_center_crop", size, 0), taps, settings)
        for part in (train, test)
    )
    return Features(name, seen, unseen, train, test)
