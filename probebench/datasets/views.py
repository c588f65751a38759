"""Turn dataset images into what a network reads, as a protocol says: crop, resize, normalise.

Geometry is done on PIL images, whose resampling is integer arithmetic and so the same on every machine.
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
"""The kind of view that is drawn by a seed."""


class Views(TorchDataset[torch.Tensor]):
    """One view of each chosen image of a split: uint8 tensors of shape (3, size, size).

    A random view depends on the protocol's seed and the image's index in the split only, not on the order in which
    images are read. Several threads may read views at once; images are then asked for one at a time, unless they say
    that they can do better (`probebench.datasets.dataset.concurrent`).
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
        """What decides the pixels of all views: equal for equal views, whatever the images are labelled or called.

        Reads all images of the split, not only the chosen ones; does not decode those that lie in files.
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
        view = self._drawn(image, index) if self._kind == RANDOM else self._centre(image)
        return torch.from_numpy(np.array(view)).permute(2, 0, 1)

    def _drawn(self, image: Image.Image, index: int) -> Image.Image:
        """A random part of an image, resized, and mirrored half the time."""
        # torch's CPU generator reads 32 bits of its seed: mix both numbers into them.
        seed = np.random.SeedSequence([self._seed, index]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        box = random_box(image.width, image.height, generator)
        mirrored = bool(torch.rand(1, generator=generator) < 0.5)
        part: Image.Image = resized_crop(image, *box, [self._size, self._size], self._mode)
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else part


def random_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A part of an image with between 8% and all of its area and sides of between 3:4 and 4:3 (C. Szegedy et al., CVPR
    2015, arXiv 1409.4842, section 6): top, left, height, width, in pixels.

    As torchvision's ``RandomResizedCrop`` draws it, number by number, which takes them from the generator that all
    threads of a process share. Where ten draws are larger than the image, what fits of its middle.
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
    """Mean and standard deviation that images in [0, 1] are normalised with: float32, shape (3, 1, 1) each."""
    mean = protocol.pixel_mean or spec.mean
    std = protocol.pixel_std or spec.std
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
