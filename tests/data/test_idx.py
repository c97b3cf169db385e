"""IDX files, and MNIST in them: what is read is what was written; every refusal says what, where and what to do."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from jaxprop import data
from tests.data.asked import IDX_CODES, few, idx_bytes, refused, write_mnist


@few
@given(
    array=st.sampled_from(sorted(IDX_CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    ),
    zipped=st.booleans(),
)
def test_idx_round_trip(tmp_path_factory, array, zipped):
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    read = data.read_idx(path)
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


IDX = idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (IDX[:-1], ["truncated: found 5 bytes of values, expected 6 for shape [2, 3]; download it again"]),
        (IDX + b"\0", ["too long: found 7 bytes of values, expected 6"]),
        (IDX[:6], ["not an IDX file: it begins with 00 00 08 02"]),
        (b"", ["not an IDX file: it begins with nothing"]),
        (b"\x89PNG\r\n", ["not an IDX file: it begins with 89 50 4e 47, expected 00 00, a dtype", "download"]),
        (b"\0\0\x0a" + IDX[3:], ["not an IDX file: it begins with 00 00 0a 02"]),
        (b"\0\0\x08\x02" + b"\xff" * 8, ["truncated: found 0 bytes of values, expected 18446744065119617025"]),
        (gzip.compress(IDX, mtime=0)[:-9], ["a corrupt gzip file", "download it again"]),
        (gzip.compress(IDX, mtime=0)[:-8] + b"\0" * 8, ["a corrupt gzip file (CRC check failed"]),
        (gzip.compress(IDX, mtime=0)[:10] + b"\xff" * 20, ["a corrupt gzip file"]),
    ],
)
def test_idx_refuses(tmp_path, raw, parts):
    path = tmp_path / "broken.idx"
    path.write_bytes(raw)
    with refused(f"{path}: ", *parts):
        data.read_idx(path)


def test_idx_missing_file(tmp_path):
    with refused("absent: cannot be read (No such file or directory)", "check the path"):
        data.read_idx(tmp_path / "absent")
    with refused(f"{tmp_path}: cannot be read"):
        data.read_idx(tmp_path)


REAL_MNIST = Path(__file__).parents[2] / "../shared/data/mnist"  # beside a developer's checkout only


REAL = [pytest.param("real", marks=pytest.mark.slow)] if REAL_MNIST.is_dir() else []


@pytest.fixture(params=["made up", *REAL])
def mnist_folder(request, tmp_path):
    return (REAL_MNIST, 60_000) if request.param == "real" else (write_mnist(tmp_path), 30)


def test_mnist(mnist_folder):
    folder, rows = mnist_folder
    mnist = data.mnist(folder, validation=rows // 6)
    kept = rows - rows // 6
    assert mnist.validation is not None and mnist.test is not None
    parts = [(mnist.x, mnist.targets), mnist.validation, mnist.test]
    assert [len(x) for x, _ in parts] == [len(t) for _, t in parts] == [kept, rows // 6, rows // 6 if rows > 30 else 10]
    images = data.read_idx(folder / "train-images-idx3-ubyte.gz").reshape(rows, 784)
    for x, pixels in ((mnist.x, images[:kept]), (mnist.validation[0], images[kept:])):  # in the files' own order
        np.testing.assert_array_equal(x[::7], np.float32(pixels[::7]) / np.float32(255))
    assert all(x.dtype == np.float32 and t.dtype == np.int32 for x, t in parts)
    assert mnist.classes == tuple("0123456789") and str(folder) not in mnist.source
    if rows == 60_000:
        assert mnist.targets[:5].tolist() == [5, 0, 4, 1, 9] and mnist.x.max() == 1


@pytest.mark.parametrize("form", ["{}-ubyte", "{}-ubyte.gz", "dotted"])
def test_mnist_file_names(tmp_path, form):
    write_mnist(tmp_path, form="{}-ubyte" if form == "dotted" else form)
    if form == "dotted":
        for path in list(tmp_path.iterdir()):
            path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    assert len(data.load(tmp_path, validation=10).x) == 20


def test_mnist_without_test_or_validation_rows(tmp_path):
    for path in write_mnist(tmp_path).glob("t10k*"):
        path.unlink()
    mnist = data.mnist(tmp_path, validation=0)
    assert mnist.test is None and mnist.validation is None and len(mnist.x) == 30


U1 = np.uint8


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"labels": np.arange(29, dtype=U1) % 10}, ["30 train images, but 29 labels; expected as many"]),
        ({"labels": np.arange(30, dtype=U1) % 11}, ["train label 10 in row 10; expected 0 to 9"]),
        ({"labels": np.zeros(30, U1)}, ["every label is 0"]),
        ({"labels": np.arange(30, dtype=np.int32)}, ["train-labels", "found int32 of shape [30], expected bytes"]),
        ({"images": np.arange(30, dtype=U1)}, ["train-images", "shape [30], expected bytes in 3", "file of images?"]),
        ({"images": np.ones((30, 8, 8), U1)}, ["train images have 64 pixels, t10k images 784"]),
        ({"train": 0, "test": 0}, ["train: x is empty"]),
        ({"train": 5}, ["validation=20 holds out 20 of 5 rows"]),
    ],
)
def test_mnist_refuses(tmp_path, given, parts):
    write_mnist(tmp_path, **given)
    with refused(*parts):
        data.mnist(tmp_path, validation=20)


def test_mnist_missing_files(tmp_path):
    with refused("train-images-idx3-ubyte(.gz) is missing", "download"):
        data.mnist(tmp_path)
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with refused("t10k-labels-idx1-ubyte(.gz) is missing"):
        data.mnist(tmp_path)
    with refused("not a folder; expected the folder that holds MNIST's IDX files"):
        data.mnist(tmp_path / "absent")
