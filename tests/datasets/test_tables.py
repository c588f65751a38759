"""Tables and lists of images, each as people write it."""

from __future__ import annotations

import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import jpeg

COLOURS = {"daisy": "white", "rose": "red", "tulip": "blue"}


def read(train, test=None, **kwargs):
    given = {"train": train} | ({} if test is None else {"test": test}) | kwargs
    return load(DatasetSpec("d", "probebench.datasets.tables:image_table", given))


def notes(data):
    return [note.text for note in data.train.notes]


@pytest.fixture
def flowers(tmp_path):
    """images/0.jpg to images/8.jpg, of three classes in turn."""
    for number in range(9):
        jpeg(tmp_path / "images" / f"{number}.jpg", list(COLOURS.values())[number % 3], (20 + number, 16))
    return tmp_path


def table(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def widths(split):
    """Which images a split has: image n is 20 + n pixels wide."""
    return [image.shape[1] - 20 for image in split.images]


# Tables


def test_two_tables_with_a_header(flowers):
    train = table(flowers / "train.csv", "image_id,label", "3,rose", "0,daisy", "1,rose")
    test = table(flowers / "test.csv", "image_id,label", "4,daisy")
    data = read(train, test)
    assert list(data.classes) == ["daisy", "rose"]
    assert data.train.labels.tolist() == [1, 0, 1]
    assert widths(data.train) == [3, 0, 1]
    assert (widths(data.test), data.test.labels.tolist()) == ([4], [0])
    assert notes(data) == [
        "train.csv: images are in column 'image_id' and labels are in column 'label', guessed from the header",
        "test.csv: images are in column 'image_id' and labels are in column 'label', guessed from the header",
        f"the images of train.csv are in {flowers / 'images'}",
        f"the images of test.csv are in {flowers / 'images'}",
    ]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("t.csv", ["File Name,Class,width", "images/0.jpg,a,20", "images/1.jpg,b,21"]),
        ("t.csv", ["id;species", "images/0.jpg;a", "images/1.jpg;b"]),
        ("t.csv", ["\ufeffpath,target", '"images/0.jpg","a"', "", "images/1.jpg,b"]),
        ("t.csv", ["index\tfile\tlabel", "0\timages\\0.jpg\ta", "1\t./images/1.JPG\tb"]),
        ("t.TSV", ["img\tcategory", "images/0\ta", "images/1\tb"]),
        ("t.csv", ["images/0.jpg,a", "images/1.jpg,b"]),
        ("t.jsonl", ['{"image": "images/0.jpg", "label": "a"}', '{"label": "b", "image": "images/1.jpg"}']),
        ("t.csv", ["image,a,b", "0.jpg,1,0", "1.jpg,0,1"]),
        ("t.csv", ["image,a,b,c", "0.jpg,1.0,0.0,0.0", "1.jpg,0.0,1.0,0.0"]),
        ("t.txt", ["images/0.jpg a", "images/1.jpg b"]),
        ("t.txt", ["# of flowers", "images/0.jpg\ta", "", "images/1.jpg\tb"]),
        ("t.lst", ["images/0.jpg, a", "images/1.jpg,b"]),
        ("t.txt", ["image\tlabel\tsize", "images/0.jpg\ta\t20", "images/1.jpg\tb\t21"]),
        ("t.txt", ["a,images/0.jpg", "b,images/1.jpg"]),
        ("t.csv", ["image,label", "/home/me/images/0.jpg,a", "/home/me/images/1.jpg,b"]),
        ("t.txt", ["flowers/images/0.jpg a", "flowers/images/1.jpg b"]),
    ],
)
def test_tables_and_lists_as_people_write_them(flowers, name, lines):
    data = read(table(flowers / name, *lines), table(flowers / "test.txt", "images/2.jpg a"))
    assert list(data.classes) == ["a", "b"]
    assert widths(data.train) == [0, 1]
    assert data.train.labels.tolist() == [0, 1]


def test_a_guess_is_printed_and_a_column_that_is_named_is_not_guessed(flowers):
    test = table(flowers / "test.txt", "images/2.jpg a")
    lines = "label,kind,image,path", "a,b,images/0.jpg,images/1.jpg"
    data = read(table(flowers / "t.csv", *lines), test)
    assert (list(data.classes), widths(data.train)) == (["a"], [0])
    assert notes(data) == [
        "t.csv: images are in column 'image' and labels are in column 'label', guessed from the header"
    ]
    own = read(
        flowers / "t.csv", table(flowers / "test.csv", "path,kind", "images/2.jpg,b"), image="path", label="kind"
    )
    assert (list(own.classes), widths(own.train), notes(own)) == (["b"], [1], [])
    one_hot = read(table(flowers / "h.csv", "image,a,b", "images/0.jpg,1,0"), test)
    assert notes(one_hot) == [
        "h.csv: images are in column 'image' and the other columns are classes, one of which is 1 for each image, "
        "guessed from the header"
    ]
    no_header = read(table(flowers / "n.csv", "images/0.jpg,a"), test)
    assert notes(no_header) == ["n.csv has no header: its columns are images and labels"]


def test_labels_stay_as_they_are_written(flowers):
    train = table(flowers / "t.csv", "image,label", "0,01", "1,1", "2,NA", "3,1e3", "4,None")
    data = read(train, table(flowers / "test.txt", "images/2.jpg 1"))
    assert list(data.classes) == ["01", "1", "1e3", "NA", "None"]
    assert data.test.labels.tolist() == [1]
    with pytest.raises(DataError, match=r"test\.txt has labels that no training image has: 001; add training images"):
        read(train, table(flowers / "test.txt", "images/2.jpg 001"))


def test_numbers_are_in_the_order_of_numbers_and_can_be_named(flowers):
    train = table(flowers / "t.txt", "images/0.jpg 10", "images/1.jpg 9", "images/2.jpg 0")
    test = table(flowers / "test.txt", "images/3.jpg 9")
    data = read(train, test)
    assert (list(data.classes), data.train.labels.tolist()) == (["0", "9", "10"], [2, 1, 0])
    train = table(flowers / "t.txt", "images/0.jpg 1", "images/1.jpg 0")
    named = read(train, table(flowers / "test.txt", "images/3.jpg 1"), classes=["newt", "eft", "frog"])
    assert (list(named.classes), named.train.labels.tolist()) == (["newt", "eft", "frog"], [1, 0])
    with pytest.raises(DataError, match="neither among the 2 class names nor numbers from 0 to 1: 9"):
        read(train, table(flowers / "test.txt", "images/3.jpg 9"), classes=["newt", "eft"])


def test_paths_in_class_folders_need_no_label(flowers):
    jpeg(flowers / "apple pie" / "7.jpg", "white", (30, 16))
    jpeg(flowers / "waffles" / "8.jpg", "white", (31, 16))
    train = table(flowers / "meta" / "train.txt", "apple pie/7", "waffles/8")
    data = read(train, table(flowers / "meta" / "test.txt", "waffles/8.jpg"))
    assert (list(data.classes), widths(data.train)) == (["apple pie", "waffles"], [10, 11])
    assert notes(data)[:1] == ["train.txt has no labels: the folder of each image is its class"]
    assert notes(data)[2] == f"the images of train.txt are in {flowers}"


# Splits


def test_a_column_has_the_split(flowers):
    rows = [f"{n},{'ab'[n % 2]},{part}" for n, part in enumerate(["train"] * 4 + ["Test", "Test", "val", "val"])]
    path = table(flowers / "t.csv", "id,label,split", *rows)
    data = read(path)
    assert (widths(data.train), widths(data.test)) == ([0, 1, 2, 3], [4, 5])
    assert (
        "t.csv is split by its column of splits: trained on 'train', tested on 'Test'; 2 images of 'val' not used"
        in (notes(data))
    )
    with pytest.raises(
        DataError, match="column 'label' holds a, b, but no splits such as train and test; name another"
    ):
        read(path, split="label")
    with pytest.raises(DataError, match=r"has no column 'spilt'\. Did you mean 'split'\? It has "):
        read(path, split="spilt")


def test_folders_in_paths_have_the_split(flowers):
    (flowers / "images").rename(flowers / "train")
    jpeg(flowers / "test" / "0.jpg", "white", (29, 16))
    data = read(table(flowers / "metadata.csv", "file_name,label", "train/0.jpg,a", "train/1.jpg,b", "test/0.jpg,a"))
    assert (widths(data.train), widths(data.test)) == ([0, 1], [9])
    assert "metadata.csv is split by the folders of the images: trained on 'train', tested on 'test'" in notes(data)


def test_a_test_part_is_drawn_where_that_is_asked_for(flowers):
    path = table(flowers / "t.csv", "image,label", *(f"{n},{'abc'[n % 3]}" for n in range(9)))
    with pytest.raises(DataError, match=r"t\.csv has no test split: name a second table .* or set test_share = 0.2"):
        read(path)
    data = read(path, test_share=0.2)
    assert sorted(widths(data.train) + widths(data.test)) == list(range(9))
    assert sorted(data.test.labels.tolist()) == [0, 1, 2]
    assert f"{path} has no test split: 20% of the images of each class, drawn with a fixed seed" in notes(data)[1]
    assert read(path, test_share=0.2).test.digest == data.test.digest


# Where the images are


def test_images_are_found_beside_the_table_above_it_and_where_the_user_says(flowers):
    test = table(flowers / "images" / "test.txt", "1.jpg a")
    for place in (flowers / "images", flowers, flowers / "lists", flowers / "lists" / "deep"):
        path = table(place / "t.txt", "0.jpg a")
        if place.name == "deep":
            with pytest.raises(
                DataError, match=r"lists 0\.jpg, which is not in .*/deep, .*; name its folder with images = "
            ):
                read(path, test)
        assert widths(read(path, test, images=flowers / "images").train) == [0]
        assert place.name == "deep" or widths(read(path, test).train) == [0]


def test_lists_of_mxnet_have_a_number_first(flowers):
    test = table(flowers / "test.lst", "0\t7.000000\timages/2.jpg")
    data = read(table(flowers / "train.lst", "0\t10.000000\timages/0.jpg", "1\t7.000000\timages/1.jpg"), test)
    assert (list(data.classes), data.train.labels.tolist()) == (["7", "10"], [1, 0])
    assert data.test.labels.tolist() == [0]


def test_accents_may_be_encoded_in_either_way(flowers):
    composed, decomposed = "gänseblümchen.jpg", "ga\u0308nseblu\u0308mchen.jpg"
    test = table(flowers / "test.txt", "images/1.jpg a")
    for on_disk, written in ((composed, decomposed), (decomposed, composed)):
        jpeg(flowers / "images" / on_disk, "white", (25, 16))
        assert widths(read(table(flowers / "t.csv", "file,label", f"{written},a"), test).train) == [5]
        (flowers / "images" / on_disk).unlink()


def test_a_folder_that_is_named_like_the_table_comes_first(flowers):
    for name, width in (("all", 30), ("train", 31)):
        jpeg(flowers / name / "x.png", "white", (width, 16))
    data = read(table(flowers / "train.csv", "id,label", "x,a"), table(flowers / "test.txt", "images/1.jpg a"))
    assert widths(data.train) == [11]


def test_absolute_paths_do_not_tie_a_baseline_to_a_machine(flowers, tmp_path_factory):
    digests = []
    for root in (flowers, tmp_path_factory.mktemp("elsewhere")):
        for number in range(2):
            if root != flowers:
                jpeg(root / "images" / f"{number}.jpg", list(COLOURS.values())[number % 3], (20 + number, 16))
        path = table(root / "t.txt", *(f"{root}/images/{number}.jpg a" for number in range(2)))
        data = read(path, table(root / "test.txt", "images/1.jpg a"))
        assert widths(data.train) == [0, 1]
        digests.append(data.train.digest)
    assert len(set(digests)) == 1


# Bad input


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        (
            "t.csv",
            ["image,colour", "0,a"],
            r"t\.csv has no column that is named like labels are; it has colour: name one",
        ),
        (
            "t.csv",
            ["a,b", "0,a"],
            r"no column that is named like images are; it has a, b: name one with image = '\.\.\.'",
        ),
        ("t.csv", ["image,label", "0,a,b"], r"t\.csv, line 2: 3 columns, but the header has 2; put values"),
        ("t.csv", ["image,label", '0,"a'], r"t\.csv, line \d: not a row of a table \(unexpected end"),
        ("t.csv", ["image,label"], "has a header but no rows"),
        ("t.csv", ["image,label,label", "0,a,b"], "has two columns 'label'; rename one"),
        ("t.csv", ["image,label", "0,a", "1,", "2,"], r"2 rows without a label \(line 3, 4\); fill or remove"),
        ("t.csv", ["image,label", ",a", "1,b"], r"1 row without an image \(line 2\)"),
        (
            "t.csv",
            ["image,label", "0,a", "99,a", "98,b"],
            r"2 images of 3 in .*t\.csv are not in .*, the first 99; copy",
        ),
        ("t.csv", ["image,label", "99,a"], r"lists 99, which is not in .*; name its folder with images"),
        (
            "t.csv",
            ["image,label", "0,0.5", "1,2"],
            "column 'label' holds numbers with decimals, such as 0.5; classes are",
        ),
        ("t.csv", ["image,label", "0,-1", "1,2"], "has the label -1; remove images without a class"),
        ("t.csv", ["image,label", "0,\"['a', 'b']\""], r"column 'label' holds several values per image, such as \['a'"),
        (
            "t.csv",
            ["image,edema,mass", "0,1,1", "1,0,1"],
            r"2 columns of 0 and 1, and 1 image with several of them or no",
        ),
        (
            "t.csv",
            ["image,edema,mass", "0,0,0", "1,0,1"],
            r"the first in line 2 \(none\): for several labels an image",
        ),
        ("t.jsonl", ['{"image": "0"', "1"], r"t\.jsonl, line 1: not JSON"),
        ("t.jsonl", ["[0, 1]"], r"t\.jsonl, line 1: expected an object with named values, got '\[0, 1\]'"),
        ("t.jsonl", ['{"image": "0", "label": [0, 1]}'], "column 'label' holds several values per image"),
        ("t.jsonl", ['{"image": "0", "label": null}'], r"1 row without a label \(line 1\)"),
        (
            "t.txt",
            ["0.jpg a", "1.jpg"],
            r"t\.txt, line 2: expected the path of an image and its label, .* got '1\.jpg'",
        ),
        ("t.txt", ["1.jpg"], r"t\.txt, line 1: expected the path of an image and its label"),
        ("t.txt", [" "], "is empty; it should list images and their labels"),
    ],
)
def test_what_is_no_table_of_images_is_refused(flowers, name, lines, message):
    with pytest.raises(DataError, match=message):
        read(table(flowers / name, *lines), table(flowers / "test.txt", "images/1.jpg a"))


def test_files_that_cannot_be_read_are_named(flowers):
    train = table(flowers / "t.txt", "images/0.jpg a")
    with pytest.raises(NotOnDisk, match=r"file .*none\.csv does not exist; correct the path"):
        read(train, flowers / "none.csv")
    with pytest.raises(DataError, match=r"images cannot be read \(Is a directory\)"):
        read(flowers / "images", train)
    (flowers / "u.csv").write_bytes("image,label\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"u\.csv is not a text in UTF-8 .*; save it in that encoding"):
        read(flowers / "u.csv", train)
    with pytest.raises(DataError, match=r"t\.txt is .*t\.txt; use other images for testing"):
        read(train, train)
    with pytest.raises(DataError, match="no/such is not a folder; correct images"):
        read(train, table(flowers / "other.txt", "1.jpg a"), images="no/such")


def test_a_name_without_ending_must_fit_one_file(flowers):
    jpeg(flowers / "images" / "0.jpeg", "white")
    with pytest.raises(DataError, match=r"images has 0\.jpeg, 0\.jpg: write the ending of '0' in the table"):
        read(table(flowers / "t.csv", "id,label", "0,a"), table(flowers / "test.txt", "images/1.jpg a"))
