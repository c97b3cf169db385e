"""How models of other libraries are run in these tests."""

import jax
import pytest


@pytest.fixture
def as_users_run_them():
    """In float32, and with silent promotion, which these libraries count on."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield
