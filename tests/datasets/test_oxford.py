from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import CATALOG, jpeg, read


@pytest.fixture
def flowers(root):
    """Eight images, numbered from 1; labels from 1 to 102."""
    folder = root / "flowers-102"
    for number in range(1, 9):
        jpeg(folder / "jpg" / f"image_{number:05d}.jpg", (number * 20, 0, 0), (30 + number, 20))
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 1, 77, 77, 102, 102, 1, 77]], dtype=np.uint8)})
    ids = {"trnid": [[3, 1, 5]], "valid": [[2]], "tstid": [[8, 4, 6, 7]]}
    savemat(folder / "setid.mat", {name: np.array(numbers, dtype=np.uint16) for name, numbers in ids.items()})
    return folder


def test_flowers_train_on_the_official_train_and_validation_sets(flowers):
    data = read("flowers102")
    assert len(data.classes) == 102
    assert [data.classes[i] for i in (0, 76, 101)] == ["pink primrose", "passion flower", "blackberry lily"]
    assert data.train.images.names == [f"jpg/image_0000{i}.jpg" for i in (3, 1, 5, 2)]
    assert data.train.labels.tolist() == [76, 0, 101, 0]
    assert data.test.labels.tolist() == [76, 76, 101, 0]
    assert data.test.images[0].shape == (20, 38, 3)
    assert CATALOG.dataset("flowers102").metric == "mean_per_class"


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
@pytest.mark.parametrize("keep", [0, 100, 150])
def test_mat_files_that_are_cut_off_are_named(flowers, name, keep):
    path = flowers / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"dataset 'flowers102': .*{name} (is not a valid MATLAB file|should contain)"):
        read("flowers102")


def test_mat_files_with_other_content_are_named(flowers):
    savemat(flowers / "imagelabels.mat", {"labels": np.array([[0.5]])})
    with pytest.raises(DataError, match=r"\.mat should contain integers under 'labels', but contains float64"):
        read("flowers102")
    savemat(flowers / "imagelabels.mat", {"label": np.array([[1]])})
    with pytest.raises(DataError, match="but contains nothing"):
        read("flowers102")


def test_labels_and_numbers_outside_their_range_are_named(flowers):
    savemat(flowers / "imagelabels.mat", {"labels": np.full((1, 8), 103, dtype=np.uint8)})
    with pytest.raises(DataError, match="labels run from 102 to 102, outside 0 to 101"):
        read("flowers102")
    savemat(flowers / "imagelabels.mat", {"labels": np.ones((1, 7), dtype=np.uint8)})
    with pytest.raises(DataError, match=r"setid\.mat lists images 4 to 8, but imagelabels\.mat has labels of 1 to 7"):
        read("flowers102")


@pytest.fixture
def pets(root):
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    # The breeds are numbered from 1; the last two columns are the species and its own number of the breed.
    lines = {
        "trainval": ["Abyssinian_100 1 1 1", "american_bulldog_10 2 2 1", "Bengal_1 3 1 2"],
        "test": ["Bengal_2 3 1 2", "american_bulldog_203 2 2 1"],
    }
    for split, each in lines.items():
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(each) + "\n")
        for line in each:
            jpeg(folder / "images" / f"{line.split()[0]}.jpg", "brown")
    return folder


def test_pets_are_classes_of_breeds(pets):
    data = read("oxford_pet")
    assert list(data.classes) == ["Abyssinian", "american bulldog", "Bengal"]
    assert data.train.labels.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == [2, 1]
    assert data.test.images.names == ["images/Bengal_2.jpg", "images/american_bulldog_203.jpg"]
    assert data.test.images[1].shape == (16, 20, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Bengal_3 3 1", r"test\.txt, line 3: expected 4 columns, the second an integer, got 'Bengal_3 3 1'"),
        ("Bengal_3 x 1 2", "line 3: expected 4 columns"),
        ("Bengal 3 1 2", "line 3: expected a name such as great_pyrenees_12, got 'Bengal'"),
        ("Bengal_3 2 1 2", "line 3: label 2 is 'Bengal' here but 'american bulldog' before"),
        ("Birman_3 5 1 3", "labels should run from 1 without a gap, but no line has label 4"),
        ("Birman_3 0 1 3", "no line has label 4"),
    ],
)
def test_lines_that_read_otherwise_are_named(pets, line, message):
    with (pets / "annotations" / "test.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        read("oxford_pet")


def test_a_list_that_is_no_text_is_named(pets):
    (pets / "annotations" / "test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"test\.txt cannot be read .*official source"):
        read("oxford_pet")


def test_images_without_annotations_are_not_enough(pets):
    (pets / "annotations" / "test.txt").unlink()
    with pytest.raises(
        NotOnDisk, match=r"-pet is incomplete: annotations/test\.txt not found\. It should contain images, "
    ):
        read("oxford_pet")
