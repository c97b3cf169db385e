"""A view of an array: a chain of reshapes, transpositions, slices and reversals, and its adjoint."""

import math
from dataclasses import dataclass

import numpy as np
from jax import Array, lax

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """A chain of reshapes, transpositions, slices and reversals of an array of `shape`; it is static, and hashable.

    >>> import jax.numpy as jnp
    >>> view = View((2, 3)).transposed((1, 0)).sliced((1, 0), (3, 2))
    >>> print(view.of(jnp.arange(6).reshape(2, 3)).tolist(), view.seen)
    [[1, 4], [2, 5]] (2, 2)
    >>> print(view.back(jnp.ones((2, 2))).tolist())
    [[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """

    shape: Numbers
    steps: tuple[tuple[str, tuple[Numbers, ...]], ...] = ()  # what is done, and with which numbers
    shapes: tuple[Numbers, ...] = ()  # after each step

    @property
    def seen(self) -> Numbers:
        """The shape of what is seen."""
        return self.shapes[-1] if self.shapes else self.shape

    def reshaped(self, shape: Numbers) -> "View":
        """Look at that in another shape."""
        if shape == self.seen:
            return self
        if self.steps and self.steps[-1][0] == "reshape":  # the last of two counts
            return View(self.shape, self.steps[:-1], self.shapes[:-1]).reshaped(shape)
        return self._then("reshape", (shape,), shape)

    def transposed(self, axes: Numbers) -> "View":
        """Look at that with its axes in another order."""
        if axes == tuple(range(len(axes))):
            return self
        if self.steps and self.steps[-1][0] == "transpose":
            before = self.steps[-1][1][0]
            return View(self.shape, self.steps[:-1], self.shapes[:-1]).transposed(tuple(before[axis] for axis in axes))
        shape = tuple(self.seen[axis] for axis in axes)
        if [axis for axis in axes if self.seen[axis] > 1] == [i for i, size in enumerate(self.seen) if size > 1]:
            return self.reshaped(shape)
        return self._then("transpose", (axes,), shape)

    def sliced(self, start: Numbers, limit: Numbers, strides: Numbers | None = None) -> "View":
        """Look at a part of that."""
        strides = strides or (1,) * len(start)
        shape = tuple(-(-(b - a) // s) for a, b, s in zip(start, limit, strides, strict=True))
        return self if shape == self.seen else self._then("slice", (start, limit, strides), shape)

    def reversed(self, axes: Numbers) -> "View":
        """Look at that from behind, along these axes."""
        axes = tuple(axis for axis in axes if self.seen[axis] > 1)
        return self._then("reverse", (axes,), self.seen) if axes else self

    def of(self, theta: Array) -> Array:
        """Return what is seen of an array."""
        for what, numbers in self.steps:
            theta = _LOOK[what](theta, *numbers)
        return theta

    def back(self, seen: Array) -> Array:
        """Return the adjoint: numbers where they came from, zeros elsewhere."""
        before = (self.shape, *self.shapes[:-1])
        for (what, numbers), shape in zip(reversed(self.steps), reversed(before), strict=True):
            seen = _BACK[what](seen, shape, *numbers)
        return seen

    @property
    def leads(self) -> bool:
        """Whether what is seen are the first numbers of the array, in their order."""
        for (what, numbers), shape in zip(self.steps, (self.shape, *self.shapes), strict=False):
            if what in ("transpose", "reverse"):
                return False
            if what == "slice":
                cut = [axis for axis, (seen, size) in enumerate(zip(numbers[1], shape, strict=True)) if seen < size]
                if any(numbers[0]) or (cut and math.prod(shape[: cut[-1]]) > 1):
                    return False
        return all(set(numbers[2]) <= {1} for what, numbers in self.steps if what == "slice")

    def _then(self, what: str, numbers: tuple[Numbers, ...], shape: Numbers) -> "View":
        return View(self.shape, (*self.steps, (what, numbers)), (*self.shapes, shape))


def _spread(seen: Array, shape: Numbers, start: Numbers, limit: Numbers, strides: Numbers) -> Array:
    """The adjoint of a slice."""
    each = zip(seen.shape, shape, start, strides, strict=True)
    pads = [(a, size - a - ((n - 1) * s + 1 if n else 0), s - 1) for n, size, a, s in each]
    return lax.pad(seen, lax.full((), 0, seen.dtype), pads)


_LOOK = {"reshape": lax.reshape, "transpose": lax.transpose, "slice": lax.slice, "reverse": lax.rev}
_BACK = {
    "reshape": lambda seen, shape, _: lax.reshape(seen, shape),
    "transpose": lambda seen, _, axes: lax.transpose(seen, tuple(int(i) for i in np.argsort(axes))),
    "slice": _spread,
    "reverse": lambda seen, _, axes: lax.rev(seen, axes),
}
