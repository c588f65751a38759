from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from probebench.datasets.walk import Walk, find_kind
from probebench.errors import DataError
from tests.datasets.ondisk import encoded, jpeg


def walk(root):
    """The names of images by class, and what was left out."""
    found = Walk(root)
    images = {name: found.images(root / name) for name in found.folders(root)}
    return images, [(note.severity, note.text) for note in found.notes()]


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        jpeg(tmp_path / name / "0.jpg", "red")
    return tmp_path


def test_images_are_known_by_their_content_where_the_ending_says_nothing(folder):
    kinds = {"a": "JPEG", "b.1": "PNG", "c.com_large": "WEBP", "d.tmp": "GIF", "e": "TIFF", "f": "BMP", "g": "JPEG2000"}
    for name, kind in (kinds | {"h.dat": "PPM"}).items():
        (folder / "cat" / name).write_bytes(encoded("red", kind=kind))
    images, notes = walk(folder)
    assert images["cat"] == ["cat/0.jpg", *(f"cat/{name}" for name in kinds), "cat/h.dat"]
    assert notes == []


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (b"", "a", "other"),
        (b"P5 is a model of phone", "a", "other"),
        (b"BM", "notes", "other"),
        (b"\xff\xd8\xff and no more", "a", "other"),
        (b"II*\0" + bytes(160), "photo.raw", "other"),
        (bytes(128) + b"DICM" + bytes(8), "scan", "unread"),
        (b"\0\0\0\x18ftypheic" + bytes(8), "IMG_1", "unread"),
        (b"\0\0\0\x18ftypavif" + bytes(8), "IMG_1", "unread"),
        (b"\0\0\0\x18ftypisom" + bytes(8), "film", "other"),
        (b"\0\0\0\x0cJXL \r\n", "a", "unread"),
    ],
)
def test_other_files_are_no_images(tmp_path, content, name, kind):
    (tmp_path / name).write_bytes(content)
    assert find_kind(str(tmp_path / name)) == kind


def test_an_image_too_large_to_be_opened_is_one(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(encoded("red"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert find_kind(str(tmp_path / "a")) == "image"


def test_what_is_left_out_is_counted_by_reason_in_one_line(folder):
    jpeg(folder / "unsorted.jpg", "red")
    (folder / "scan.dcm").write_bytes(b"")
    (folder / "README.md").write_text("two animals")
    os.symlink(folder / "nowhere.txt", folder / "cat" / "label.txt")
    (folder / "cat" / "0.NEF").write_bytes(b"II*\0")
    (folder / "cat" / "0.txt").write_text("a cat")
    jpeg(folder / "cat" / ".thumbnails" / "0.jpg", "red")
    (folder / "cat" / "._0.jpg").write_bytes(b"left by a Mac")
    (folder / "__MACOSX").mkdir()
    os.symlink(folder / "cat", folder / "cat" / "all")
    assert walk(folder)[1] == [
        (
            "warning",
            "left out 2 images outside of class folders (scan.dcm, ...); 1 link to nowhere (cat/label.txt); "
            "1 picture in an unsupported format (cat/0.NEF); 1 link to a folder that is read already or lies above "
            "(cat/all); 2 other files (README.md, ...); 3 hidden items (__MACOSX, ...)",
        )
    ]


def test_what_is_no_loss_is_no_warning(folder):
    (folder / "cat" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    assert walk(folder)[1] == [("info", "left out 1 other file (cat/Thumbs.db)")]
    (folder / "cat" / "Thumbs.db").unlink()
    assert walk(folder)[1] == []


def test_images_of_a_kind_that_is_not_read_are_refused_together(folder):
    (folder / "dog" / "1.heic").write_bytes(b"")
    (folder / "cat" / "scan").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(DataError, match=r"has 2 images in an unsupported format, such as cat/scan; convert them to"):
        walk(folder)


def test_a_class_that_links_to_nowhere_is_refused_and_an_image_is_kept_to_be_refused_when_it_is_read(folder):
    os.symlink("/nowhere/0.jpg", folder / "cat" / "1.jpg")
    assert walk(folder)[0]["cat"] == ["cat/0.jpg", "cat/1.jpg"]
    os.symlink("/not_mounted/emu", folder / "emu")
    with pytest.raises(DataError, match=r"/emu is a link to /not_mounted/emu, which does not exist; restore it, or"):
        walk(folder)


def test_linked_folders_are_read_once_and_folders_above_never(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    jpeg(elsewhere / "more" / "1.jpg", "red")
    os.symlink(elsewhere, elsewhere / "more" / "loop")
    os.symlink(elsewhere, folder / "cat" / "linked")
    os.symlink(elsewhere, folder / "cat" / "twice")
    os.symlink(folder, folder / "cat" / "up")
    os.symlink("..", folder / "dog" / "up")
    images, notes = walk(folder)
    assert images == {"cat": ["cat/0.jpg", "cat/linked/more/1.jpg"], "dog": ["dog/0.jpg"]}
    assert notes == [("info", "left out 4 links to a folder that is read already or lies above (cat/twice, ...)")]


def test_a_class_that_is_a_link_is_read_and_its_folders_above_are_not(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(folder / "cat", elsewhere / "cat")
    os.symlink(elsewhere / "cat", folder / "cat")
    os.symlink(elsewhere, elsewhere / "cat" / "up")
    assert walk(folder)[0]["cat"] == ["cat/0.jpg"]


def test_a_root_may_be_relative_and_names_sort_as_paths_do(folder, monkeypatch):
    jpeg(folder / "cat" / "a" / "1.jpg", "red")
    jpeg(folder / "cat" / "a-b" / "1.jpg", "red")
    jpeg(folder / "cat" / "a.jpg", "red")
    monkeypatch.chdir(folder)
    images = walk(Path())[0]["cat"]
    assert images == sorted(images, key=Path)
    assert images == walk(folder)[0]["cat"]
    assert images == ["cat/0.jpg", "cat/a/1.jpg", "cat/a-b/1.jpg", "cat/a.jpg"]


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    (folder / "cat" / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"folder .*/cat/locked cannot be read \(Permission denied\); correct its perm"):
        walk(folder)
