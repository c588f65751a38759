"""Crop, resize and normalise images according to a protocol.

Geometry is applied to PIL images, whose resampling is integer arithmetic and so the same on every machine.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop

from probebench.catalog import ModelSpec
from probebench.catalog.protocols import Protocol
from probebench.datasets import Split
from probebench.datasets.dataset import check_image, concurrent

RANDOM = "random_resized_crop_flip"
"""The kind of view that depends on a seed."""


class Views(TorchDataset[torch.Tensor]):
    """One view of each chosen image of a split: uint8 tensors of shape (3, size, size).

    A random view depends on the protocol's seed and the image's index in the split only, not on the order in which
    images are read. Several threads may read views at once; a lock serialises access to images that do not support
    concurrent reads (`probebench.datasets.dataset.concurrent`).
    """

    def __init__(
        self,
        split: Split,
        indices: npt.NDArray[np.int64],
        kind: str,
        size: int,
        seed: int,
        interpolation: str = "bilinear",
    ) -> None:
        self._split, self._indices, self._seed = split, indices, seed
        self._kind, self._size, self._interpolation = kind, size, interpolation
        self._mode = InterpolationMode(interpolation)
        self._reading: AbstractContextManager[object] = nullcontext() if concurrent(split.images) else Lock()
        self._centre = transforms.Compose(
            [transforms.Resize(size, interpolation=self._mode), transforms.CenterCrop(size)]
        )

    def __len__(self) -> int:
        return len(self._indices)

    def identity(self) -> dict[str, str | int | None]:
        """Return what determines the pixels of all views, independent of labels and names of datasets.

        Reads all images of the split, not only the chosen ones; image files are not decoded.
        """
        return {
            "images": self._split.images_digest,
            "indices": hashlib.sha256(np.ascontiguousarray(self._indices, dtype="<i8").tobytes()).hexdigest(),
            "view": self._kind,
            "seed": self._seed if self._kind == RANDOM else None,
            "size": self._size,
            "interpolation": self._interpolation,
        }

    def __getitem__(self, position: int) -> torch.Tensor:
        index = int(self._indices[position])
        with self._reading:
            array = self._split.images[index]
        check_image(array, f"image {index} of a split")
        image = Image.fromarray(array).convert("RGB")
        view = self._random_view(image, index) if self._kind == RANDOM else self._centre(image)
        return torch.from_numpy(np.array(view)).permute(2, 0, 1)

    def _random_view(self, image: Image.Image, index: int) -> Image.Image:
        """Crop a random part of an image, resize it, and mirror it with probability one half."""
        # torch's CPU generator uses 32 bits of its seed, so both numbers are mixed into them.
        seed = np.random.SeedSequence([self._seed, index]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        box = random_box(image.width, image.height, generator)
        mirrored = bool(torch.rand(1, generator=generator) < 0.5)
        part: Image.Image = resized_crop(image, *box, [self._size, self._size], self._mode)
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else part


def random_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draw a part of an image with 8% to 100% of its area and an aspect ratio of 3:4 to 4:3 (C. Szegedy et al., CVPR
    2015, arXiv 1409.4842, section 6): top, left, height, width, in pixels.

    Draws the same numbers as torchvision's ``RandomResizedCrop``, which always uses the generator shared by all threads
    of the process. If ten draws exceed the image, returns its largest central part with an allowed aspect ratio.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(1).uniform_(low, high, generator=generator)

    def below(end: int) -> int:
        return int(torch.randint(0, end, (1,), generator=generator))

    narrowest, widest = torch.log(torch.tensor([3 / 4, 4 / 3])).tolist()
    for _ in range(10):
        area = width * height * float(uniform(0.08, 1.0))
        ratio = float(torch.exp(uniform(narrowest, widest)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = below(height - down + 1)
            return top, below(width - across + 1), down, across
    across = min(width, round(height * 4 / 3))
    down = min(height, round(width * 4 / 3))
    return (height - down) // 2, (width - across) // 2, down, across


def pixel_statistics(protocol: Protocol, spec: ModelSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation to normalise images in [0, 1] with: float32, shape (3, 1, 1) each."""
    mean = protocol.pixel_mean or spec.mean
    std = protocol.pixel_std or spec.std
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
