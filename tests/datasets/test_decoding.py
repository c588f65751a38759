"""All readers and `classify.py` decode images alike, as the table in docs/adding-a-dataset.md has it."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.recommendation import classify
from tests.datasets.ondisk import parquet
from tests.datasets.test_webdataset import shard

DOCS = Path(__file__).parents[2] / "docs" / "adding-a-dataset.md"

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
GREY = RGB[..., 0]
THREE = np.stack([GREY] * 3, axis=-1)
OTHER = Image.fromarray(255 - RGB)
RED = np.full((9, 12, 3), (255, 0, 0), np.uint8)
BIT = np.where(THREE > 127, 255, 0).astype(np.uint8)
PALETTE = Image.fromarray(RGB).quantize(16)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def deep_png(values, colour):
    """A PNG file of 16 bits per channel, of shape (height, width, channels), which Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def over_white(alpha):
    """RGB with an alpha channel over white, by the definition of opacity."""
    share = alpha[..., None] / 255
    return np.round(RGB * share + 255 * (1 - share)).astype(np.uint8)


def turned(kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return saved(Image.fromarray(RGB), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


def several(kind, **options):
    return saved(Image.fromarray(RGB), kind, save_all=True, append_images=[OTHER], **options)


def clear_palette():
    """The second colour of a palette everywhere."""
    image = Image.new("P", (12, 9), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return image


ALPHA = RNG.integers(0, 256, (9, 12), dtype=np.uint8)
DEEP = RGB.astype(np.uint16) * 256 + 17
UPRIGHT = np.rot90(RGB, -1)

KINDS = {
    "with an EXIF orientation": [(turned("PNG"), UPRIGHT), (turned("WEBP"), UPRIGHT), (turned("TIFF"), UPRIGHT)],
    "grey, or black and white": [
        (saved(Image.fromarray(GREY), "PNG"), THREE),
        (saved(Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE), "PNG"), BIT),
    ],
    "with a palette": [(saved(PALETTE, "PNG"), np.array(PALETTE.convert("RGB")))],
    "with transparency": [
        (saved(Image.fromarray(np.dstack([RGB, ALPHA])), "PNG"), over_white(ALPHA)),
        (saved(Image.fromarray(np.dstack([GREY, 0 * GREY])), "PNG"), np.full((9, 12, 3), 255, np.uint8)),
        (saved(clear_palette(), "PNG", transparency=1), np.full((9, 12, 3), 255, np.uint8)),
    ],
    "CMYK": [
        (saved(Image.new("CMYK", (12, 9), (0, 255, 255, 0)), "TIFF"), RED),
        (saved(Image.new("CMYK", (12, 9), (0, 255, 255, 0)), "JPEG", quality=100), RED),
    ],
    "with a colour profile (ICC)": [
        (
            saved(
                Image.fromarray(RGB),
                "PNG",
                icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(),
            ),
            RGB,
        )
    ],
    "of 16 bits per channel, in colour": [
        (deep_png(DEEP, 2), RGB),
        (deep_png(np.dstack([DEEP, np.full((9, 12), 65535)]), 6), RGB),
    ],
    "grey of more than 8 bits": [
        (saved(Image.fromarray(DEEP[..., 0]), "PNG"), None),
        (saved(Image.fromarray(DEEP[..., 0]), "TIFF"), None),
        (saved(Image.fromarray(DEEP[..., 0].astype(np.float32)), "TIFF"), None),
        (saved(Image.fromarray(DEEP[..., 0].astype(np.int32)), "TIFF"), None),
        (deep_png(np.dstack([DEEP[..., 0], np.full((9, 12), 65535)]), 4), None),
    ],
    "animated, or of several pages": [
        (several("TIFF"), RGB),
        (several("WEBP", lossless=True), RGB),
        (several("PNG"), RGB),
        (
            saved(PALETTE, "GIF", save_all=True, append_images=[OTHER.quantize(16)]),
            np.array(PALETTE.convert("RGB")),
        ),
    ],
    "damaged, empty, or no image": [(saved(OTHER, "PNG")[:60], None), (b"", None), (b"<html>404</html>", None)],
}
FILES = [(kind, data, expected) for kind, examples in KINDS.items() for data, expected in examples]
READERS = ("folder", "list", "huggingface", "webdataset")


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Each reader's images, those of `FILES` in order."""
    root = tmp_path_factory.mktemp("kinds")
    place = root / "train" / "a"
    for folder in (place, root / "test" / "a"):
        folder.mkdir(parents=True)
        for number, (_, data, _) in enumerate(FILES):
            if folder == place or number == 0:
                (folder / f"{number:03d}.png").write_bytes(data)  # whatever the name says
    (root / "train.txt").write_text("".join(f"train/a/{number:03d}.png a\n" for number in range(len(FILES))))
    (root / "test.txt").write_text("test/a/000.png a\n")
    for split, files in (("train", FILES), ("test", FILES[:1])):
        members = [
            (f"{n}.{end}", part) for n, (_, data, _) in enumerate(files) for end, part in (("png", data), ("cls", "a"))
        ]
        shard(root / f"{split}.tar", *members)
    found = {}
    specs = {
        "folder": ("folder:image_folder", {"root": root}),
        "list": ("tables:image_table", {"train": root / "train.txt", "test": root / "test.txt"}),
        "webdataset": ("webdataset:shards", {"train": root / "train.tar", "test": root / "test.tar"}),
    }
    try:
        for split, files in (("train", FILES), ("test", FILES[:1])):
            parquet(root / "rows" / f"{split}.parquet", [data or b" " for _, data, _ in files], [0] * len(files), ["a"])
        specs["huggingface"] = ("huggingface:dataset", {"repo": str(root / "rows")})
    except ImportError:
        pass
    for name, (reader, kwargs) in specs.items():
        found[name] = load(DatasetSpec("d", f"probebench.datasets.{reader}", kwargs)).train.images
    return found


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("number", "kind"), [(number, kind) for number, (kind, _, _) in enumerate(FILES)])
def test_each_kind_of_image_is_read_alike(read, reader, number, kind):
    if reader not in read:
        pytest.skip("needs probebench[hf]")
    expected = FILES[number][2]
    if expected is None:
        reason = "has pixels of mode .*; convert it to 8 bits" if "bits" in kind else "cannot be decoded"
        with pytest.raises(DataError, match=rf"image .* {reason}"):
            read[reader][number]
        return
    pixels = read[reader][number]
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= (1 if kind in ("with transparency", "CMYK") else 0)


@pytest.mark.parametrize(("number", "kind"), [(number, kind) for number, (kind, _, _) in enumerate(FILES)])
def test_the_script_reads_them_as_training_did(read, tmp_path, number, kind):
    _, data, expected = FILES[number]
    path = tmp_path / "image"
    path.write_bytes(data)
    if expected is None:
        with pytest.raises(
            (OSError, ValueError), match="pixels of mode" if "bits" in kind else "cannot identify|truncated"
        ):
            classify.read_image(path, about(8))
        return
    for upright in (True, False):
        seen = classify.read_image(path, about(expected.shape[1], upright=upright))
        pixels = (seen * 255).round().byte().permute(1, 2, 0).numpy()
        wanted = read["folder"][number]
        if not upright and kind == "with an EXIF orientation":
            wanted = RGB if Image.open(path).format != "TIFF" else UPRIGHT  # Pillow always turns TIFF
        resized = Image.fromarray(wanted)
        size = expected.shape[1]
        assert np.array_equal(pixels, np.array(as_classified(resized, size)))


def about(size, **more):
    pixels = {"size": size, "interpolation": "bilinear", "mean": [0.0] * 3, "std": [1.0] * 3}
    return {"preprocessing": pixels | more}


def as_classified(image, size):
    from torchvision import transforms

    return transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])(image)


def test_the_table_in_the_documentation_has_each_kind():
    section = DOCS.read_text(encoding="utf-8").partition("## How images are decoded\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE))
    rows.pop("an image")
    assert list(rows) == list(KINDS)
    for kind, text in rows.items():
        refused = {expected is None for _, expected in KINDS[kind]}
        assert refused == {text.startswith("an error")}, kind
