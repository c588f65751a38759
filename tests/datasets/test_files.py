from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from probebench.datasets import Dataset, Split
from probebench.datasets.files import ImageFiles, find_listed
from probebench.datasets.views import Views
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import jpeg


@pytest.fixture
def folder(tmp_path):
    jpeg(tmp_path / "a" / "wide.jpg", (200, 10, 10), (40, 16))
    jpeg(tmp_path / "b" / "tall.jpg", (10, 10, 200), (12, 30))
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    Image.new("P", (8, 8), 3).save(tmp_path / "palette.gif")
    return tmp_path


NAMES = ["a/wide.jpg", "b/tall.jpg", "grey.png"]
LABELS = np.array([0, 1, 1], dtype=np.int64)


def split(folder, names=NAMES, labels=LABELS):
    return Split(ImageFiles(folder, names), labels)


def test_images_of_any_size_and_mode_are_read_as_rgb_when_they_are_indexed(folder):
    images = ImageFiles(folder, [*NAMES, "palette.gif"])
    assert len(images) == 4
    assert [image.shape for image in images] == [(16, 40, 3), (30, 12, 3), (8, 8, 3), (8, 8, 3)]
    assert all(image.dtype == np.uint8 for image in images)
    assert images[0][0, 0, 0] > 190 > 20 > images[0][0, 0, 2]
    assert (images[2] == 77).all()


def drawing(mode):
    """A black square, half of it transparent over black, in a mode that can say so."""
    image = Image.new("LA", (8, 4), (0, 255))
    image.paste((0, 0), (4, 0, 8, 4))
    if mode in ("LA", "RGBA"):
        return image.convert(mode), {}
    grey = Image.new(mode, (8, 4), 0)
    grey.paste(1 if mode == "P" else (0, 0, 1), (4, 0, 8, 4))
    if mode == "P":
        grey.putpalette([0, 0, 0, 0, 0, 0])
    return grey, {"transparency": 1 if mode == "P" else (0, 0, 1)}


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "RGB"])
def test_what_is_transparent_is_white(tmp_path, mode):
    image, options = drawing(mode)
    image.save(tmp_path / "a.png", **options)
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == mode
        assert not np.array(stored.convert("RGB"))[..., :2].any()  # all black underneath
    (seen,) = ImageFiles(tmp_path, ["a.png"])
    assert (seen[:, :4] == 0).all()
    assert (seen[:, 4:] == 255).all()


def test_half_transparent_is_half_white_and_an_opaque_image_keeps_its_bytes(tmp_path):
    Image.new("RGBA", (2, 2), (0, 100, 200, 128)).save(tmp_path / "half.png")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    half, opaque = ImageFiles(tmp_path, ["half.png", "opaque.png"])
    assert np.abs(half[0, 0].astype(int) - [127, 177, 227]).max() <= 1
    assert np.array_equal(opaque, pixels[..., :3])


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_photograph_is_turned_where_that_is_asked_for_and_the_digest_sees_it(tmp_path, ending):
    plain, sideways = f"plain.{ending}", f"sideways.{ending}"
    photo = Image.new("RGB", (40, 16), "red")
    photo.paste("blue", (0, 0, 20, 16))  # on the left
    photo.save(tmp_path / plain)
    # Held with the right side up, 6: its left is the upper end.
    photo.save(tmp_path / sideways, exif=orientation(6))
    assert [image.shape for image in ImageFiles(tmp_path, [plain, sideways])] == [(16, 40, 3)] * 2
    as_stored, turned = ImageFiles(tmp_path, [plain, sideways], upright=True)
    assert (as_stored.shape, turned.shape) == ((16, 40, 3), (40, 16, 3))
    assert turned[5, 8, 2] > 200 > 50 > turned[35, 8, 2]
    for name, same in ((plain, True), (sideways, False)):
        digests = {Split(ImageFiles(tmp_path, [name], upright=up), LABELS[:1]).digest for up in (False, True)}
        assert (len(digests) == 1) == same


def test_a_tiff_file_is_turned_by_pillow_and_so_one_image_either_way(tmp_path):
    Image.new("RGB", (8, 4)).save(tmp_path / "a.tiff", exif=orientation(6))
    either = [ImageFiles(tmp_path, ["a.tiff"], upright=upright) for upright in (False, True)]
    assert [images[0].shape for images in either] == [(8, 4, 3)] * 2
    assert list(either[0].content()) == list(either[1].content())


def orientation(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


def test_orientation_behind_the_pixels_of_a_png_counts(tmp_path):
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png", exif=orientation(8))
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    (tmp_path / "b.png").write_bytes(data[:start] + data[end:last] + data[start:end] + data[last:])
    images = ImageFiles(tmp_path, ["b.png"], upright=True)
    assert images[0].shape == (8, 4, 3)
    assert list(images.content()) != list(ImageFiles(tmp_path, ["b.png"]).content())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_orientation_leaves_an_image_as_it_is(tmp_path):
    exif = orientation(6)
    exif[ExifTags.Base.Make] = "a maker of cameras"
    data = exif.tobytes()
    for bad in (b"nothing", data[:20], data[:16] + b"\xff" * 20):
        Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=bad)
        images = ImageFiles(tmp_path, ["a.jpg"], upright=True)
        assert images[0].shape in {(4, 8, 3), (8, 4, 3)}
        assert len(list(images.content())) == 1


def test_an_orientation_that_pillow_cannot_rewrite_leaves_an_image_as_it_is(tmp_path, monkeypatch):
    def trip(_):
        raise TypeError("required argument is not an integer")

    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=orientation(6))
    monkeypatch.setattr(ImageOps, "exif_transpose", trip)
    assert ImageFiles(tmp_path, ["a.jpg"], upright=True)[0].shape == (4, 8, 3)


def test_a_dataset_of_files_goes_through_views_unchanged(folder):
    data = Dataset("d", ["a", "b"], split(folder), split(folder))
    views = Views(data.train, np.array([2, 0]), "center", 16, seed=0)
    assert [view.shape for view in views] == [(3, 16, 16)] * 2
    assert (views[0] == 77).all()


def test_the_digest_sees_names_bytes_labels_and_order_and_nothing_else(folder, tmp_path_factory):
    first = split(folder).digest
    other = tmp_path_factory.mktemp("elsewhere")
    for name in NAMES:
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_bytes((folder / name).read_bytes())
    assert split(other).digest == first
    changed = {split(folder, labels=LABELS[::-1].copy()).digest, split(folder, [NAMES[1], NAMES[0], NAMES[2]]).digest}
    (other / "grey.png").rename(other / "gray.png")
    changed.add(split(other, ["a/wide.jpg", "b/tall.jpg", "gray.png"]).digest)
    with (folder / "grey.png").open("ab") as file:
        file.write(b"\0")
    changed.add(split(folder).digest)
    assert len({first, *changed}) == 5


def test_the_digest_is_computed_once(folder):
    one = split(folder)
    digest = one.digest
    (folder / "grey.png").unlink()
    assert one.digest == digest
    with pytest.raises(DataError, match=r"grey\.png cannot be read \(No such file"):
        _ = split(folder).digest


@pytest.mark.parametrize("keep", [0, 20, 0.5])
@pytest.mark.parametrize("name", ["a/wide.jpg", "grey.png", "palette.gif"])
def test_a_damaged_file_is_named_with_what_to_do(folder, name, keep):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(DataError, match=rf"image .*{name} cannot be decoded \(.*replace it with an intact copy"):
        ImageFiles(folder, [name])[0]


def test_a_missing_file_and_one_of_sixteen_bits_are_named(folder):
    with pytest.raises(DataError, match=r"image .*none\.jpg is missing; replace"):
        ImageFiles(folder, ["none.jpg"])[0]
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(folder / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has pixels of mode 'I;16'; convert it to 8 bits"):
        ImageFiles(folder, ["deep.png"])[0]


def test_an_image_that_pillow_finds_too_large_is_not_called_damaged(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(
        DataError, match=r"grey\.png exceeds the size limit of Pillow \(Image size \(64 pixels\) .*; scale it"
    ):
        ImageFiles(folder, ["grey.png"])[0]


class Lazy(list):
    """Any sequence of arrays will do."""


def test_other_lazy_sequences_are_digested_by_their_pixels():
    images = [np.full((4 + i, 5, 3), i, dtype=np.uint8) for i in range(3)]
    first = Split(Lazy(images), LABELS)
    Dataset("d", ["a", "b"], first, first)
    assert first.digest == Split(Lazy(images), LABELS).digest
    other = [images[0].reshape(5, 4, 3), *images[1:]]
    assert first.digest != Split(Lazy(other), LABELS).digest


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), r"must be uint8 of shape \(height, width\).*got float64 of shape \(4, 4, 3\)"),
        (np.zeros(4, np.uint8), r"got uint8 of shape \(4,\)"),
        (np.zeros((4, 4, 4), np.uint8), r"needs 3 channels in the last axis, got \(4, 4, 4\)"),
        ("a.jpg", "got str"),
    ],
)
def test_lazy_images_of_another_kind_are_refused(image, message):
    bad = Split(Lazy([image] * 3), LABELS)
    with pytest.raises(DataError, match=rf"dataset 'd', train split: .*{message}"):
        Dataset("d", ["a", "b"], bad, bad)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint16), "got uint16"),  # which Pillow would clip at 255
        (np.zeros((4, 4, 4), np.uint8), r"needs 3 channels in the last axis, got \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
        (None, "got NoneType"),
    ],
)
def test_a_lazy_image_of_another_kind_than_the_first_is_named_when_it_is_read(image, message):
    views = Views(
        Split(Lazy([np.zeros((4, 4, 3), np.uint8), image]), LABELS[:2]), np.array([0, 1]), "center", 4, seed=0
    )
    assert views[0].shape == (3, 4, 4)
    with pytest.raises(DataError, match=rf"image 1 of a split: an? .*{message}"):
        views[1]


def test_lazy_images_and_labels_agree_in_number(folder):
    good, bad = split(folder), split(folder, NAMES[:2])
    with pytest.raises(DataError, match=r"dataset 'd', test split: labels must be int64 of shape \(2,\)"):
        Dataset("d", ["a", "b"], good, bad)


def test_lists_are_checked_for_missing_files_before_anything_is_decoded(folder):
    assert find_listed(folder, NAMES)[2].shape == (8, 8, 3)
    names = ["a/wide.jpg", "a/none.jpg", "c/none.jpg"]
    with pytest.raises(NotOnDisk, match=r"2 of 3 listed images are missing, the first .*a/none\.jpg\. The archive may"):
        find_listed(folder, names)
