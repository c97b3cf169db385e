"""Files that a test writes."""

import numpy as np
import pytest


@pytest.fixture
def write(tmp_path):
    def write(text, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "rows.npz", **arrays)
        return tmp_path / "rows.npz"

    return save
