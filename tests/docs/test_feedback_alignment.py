"""docs/examples/feedback_alignment.py on a small made-up folder: rules train, and the angles are what they must be."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.data.asked import idx_bytes

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "feedback_alignment.py"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("feedback_alignment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """A bar of 28 pixels for each of the ten digits, at a row of its own."""
    for part, rows in (("train", 256), ("t10k", 50)):
        labels = np.arange(rows, dtype=np.uint8) % 10
        images = np.random.default_rng(rows).integers(0, 40, (rows, 28, 28)).astype(np.uint8)
        images[np.arange(rows)[:, None], 2 + 2 * labels[:, None] + np.arange(2)] = 255
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return tmp_path


@pytest.mark.slow
def test_rules_of_the_table_train(example, folder, tmp_path, capsys):
    picture = tmp_path / "angles.png"
    errors, angles = example.main(folder, epochs=1, names=("BP", "brSF", "FA"), picture=picture)
    assert list(errors) == ["BP", "brSF", "FA"] and all(0 <= error[0] <= 100 for error in errors.values())
    assert picture.read_bytes().startswith(b"\x89PNG")
    layers = {name: angles[name].layers for name in errors}
    assert list(layers["FA"]) == ["1", "4", "8", "10", "11"] and layers["FA"]["1"].shape == (2,)
    assert max(values.max() for values in layers["BP"].values()) < 0.01
    for name in ("brSF", "FA"):
        assert layers[name]["11"].max() < 0.1 < layers[name]["8"].min()  # only the last layer's error is the true one
    assert layers["brSF"]["8"][0] < layers["FA"]["8"][0]
    said = capsys.readouterr().out
    assert "rule     error %, ours  BioTorch" in said and "FA   " in said
