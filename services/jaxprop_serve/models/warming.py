"""Before a model answers: every number of rows that will ever be computed is compiled, run, checked and timed."""

import math
import time

import numpy as np

from jaxprop.errors import ModelError
from jaxprop_serve.models.runtimes import Executable, Loaded


def check_rows(loaded: Loaded, most: int) -> None:
    """Raise ModelError for rows too large for any request: a model's folder may say anything about their size."""
    for spec in loaded.signature.inputs:
        size = math.prod(spec.shape[1:]) * spec.dtype.itemsize
        if size > most or any(size < 0 for size in spec.shape[1:]):
            row = list(spec.shape[1:])
            raise ModelError(
                f"input {spec.name!r}: a row is {row}, {size:,} bytes, the most are max_body_bytes, {most:,}"
            )


def warm(loaded: Loaded, largest: int) -> tuple[dict[int, Executable], dict[int, float], bool]:
    """Compile and run 1, 2, 4, ... `largest` rows. By rows: the executables, and what each takes in seconds; and
    whether a row's answer has the same bits alone and in the largest batch.

    Raises ModelError for outputs that are not as described, and rows that depend on each other.
    """
    executables = {rows: loaded.compile(rows) for rows in _buckets(largest)}
    example = _example(loaded, largest)
    bit_exact = _check(loaded, executables, example)
    return executables, {rows: _seconds(execute, example, rows) for rows, execute in executables.items()}, bit_exact


def _buckets(largest: int) -> list[int]:
    """Return 1, 2, 4, ... and the largest itself."""
    return [*(1 << i for i in range((largest - 1).bit_length())), largest]


def _example(loaded: Loaded, rows: int) -> dict[str, np.ndarray]:
    """Return the model's own rows, over and over, or rows that any model can take, all different where they can be."""
    if loaded.example is not None:
        return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in loaded.example.items()}
    rng, found = np.random.default_rng(0), {}
    for spec in loaded.signature.inputs:
        shape = (rows, *spec.shape[1:])
        if spec.datatype == "BYTES":  # numbers as text: what reads any text reads these, and so does what reads numbers
            texts = [b"%d" % i for i in range(math.prod(shape))]
            found[spec.name] = np.array(texts, object).reshape(shape)
            continue
        whole = spec.dtype.kind in "biu"
        values = rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)
        found[spec.name] = values.astype(spec.dtype)
    return found


def _check(loaded: Loaded, executables: dict[int, Executable], example: dict[str, np.ndarray]) -> bool:
    """Run every bucket; ModelError unless outputs are as described and no row depends on the others. True if not even
    in its last bit."""
    largest = max(executables)
    batches = {rows: execute(_rows(example, 0, rows)) for rows, execute in executables.items()}
    for rows, outputs in batches.items():
        for spec in loaded.signature.outputs:
            found, expected = outputs[spec.name], (rows, *spec.shape[1:])
            if found.shape != expected or found.dtype != spec.dtype:
                raise ModelError(
                    f"output {spec.name!r}: found {found.dtype} {list(found.shape)} for {rows} rows, "
                    f"expected {spec.dtype} {list(expected)}"
                )
    exact = True
    for i in {0, largest // 2, largest - 1}:
        alone = executables[1](_rows(example, i, i + 1))
        for name, y in alone.items():
            together = batches[largest][name][i : i + 1]
            exact = exact and _same_bits(y, together)
            if not _close(y, together):
                raise ModelError(
                    f"output {name!r}: a row's answer depends on the other rows of the batch; a network with BatchNorm "
                    "is served after jp.freeze_statistics(net, x, params), any other with batching off"
                )
    return exact


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether they are equal to the last bit, NaN and all; the bytes of objects are only where these lie."""
    return np.array_equal(a, b) if a.dtype.kind == "O" else a.tobytes() == b.tobytes()


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether they are equal but for rounding: a sum in another order, not another row's influence."""
    if a.dtype.kind in "biuO":
        return np.array_equal(a, b)
    digits = 16 * 2.0 ** -{1: 7, 2: 7 if a.dtype.name == "bfloat16" else 10}.get(a.dtype.itemsize, 14)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    scale = max(1.0, float(np.max(np.abs(wide_a[np.isfinite(wide_a)]), initial=0.0)))
    return np.allclose(wide_a, wide_b, rtol=digits, atol=digits * scale, equal_nan=True)


def _seconds(execute: Executable, example: dict[str, np.ndarray], rows: int) -> float:
    """Return the seconds that a forward takes: the best of a few, of fewer where they are long."""
    inputs, best, began = _rows(example, 0, rows), float("inf"), time.perf_counter()
    while time.perf_counter() - began < 0.01 or best == float("inf"):
        start = time.perf_counter()
        execute(inputs)
        best = min(best, time.perf_counter() - start)
    return best


def _rows(arrays: dict[str, np.ndarray], start: int, end: int) -> dict[str, np.ndarray]:
    return {name: array[start:end] for name, array in arrays.items()}
