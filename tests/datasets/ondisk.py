"""Write tiny datasets in their true on-disk formats."""

from __future__ import annotations

import io
import pickle
from typing import ClassVar

import numpy as np
from PIL import Image

from probebench.catalog import Catalog
from probebench.datasets import load

CATALOG = Catalog.default()


def read(name):
    return load(CATALOG.dataset(name))


def jpeg(path, colour, size=(20, 16)):
    """A photograph of one colour; `size` is width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=95)


def fill(folder, split, classes, count=2, ending=".jpg"):
    """Class folders of photographs."""
    for number, name in enumerate(classes):
        for i in range(count):
            jpeg(folder / split / name / f"{i}{ending}", (60 * number % 256, 100, 10 * i))


def encoded(value, mode="RGB", kind="PNG"):
    """The bytes of an image file of one colour."""
    stream = io.BytesIO()
    Image.new(mode, (12, 9), value).save(stream, kind)
    return stream.getvalue()


def parquet(path, images, labels, names=("newt", "eft"), image="image", label="label", kind=None):
    """A parquet file as the Hub keeps them: encoded images, class numbers, and what they mean in its schema."""
    import datasets

    features = datasets.Features({image: datasets.Image(), label: kind or datasets.ClassLabel(names=list(names))})
    table = {image: [each and {"bytes": each, "path": None} for each in images], label: labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(table, features=features).to_parquet(path)


class _Python2Pickler(pickle._Pickler):
    """Write what Python 2 wrote: strings of bytes, and numpy under its old module names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def _string(self, text):
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(text)

    dispatch[str] = _string
    dispatch[bytes] = _string

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else "numpy"
        self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[type] = save_global
    dispatch[type(len)] = save_global
    dispatch[type(lambda: 0)] = save_global


def python2_pickle(path, record):
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


def batch(labels, key, seed=0):
    """A CIFAR batch: rows of a red, a green and a blue plane."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    names = [f"image_{i}.png" for i in range(len(labels))]
    return {"batch_label": "a batch", key: list(labels), "data": data, "filenames": names}


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class Decoded:
    """Images that can only be decoded."""

    def __init__(self, images):
        self.images = list(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]
