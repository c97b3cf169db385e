"""Shuffled batches, gathered on the host by a thread while the device computes.

A gather inside a compiled loop costs XLA:CPU as much as the step of a small network, and keeping a shuffled copy of the
data on the device costs its memory. A thread that copies rows costs neither: numpy releases the interpreter lock.
"""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from jaxprop.train.devices import Devices
from jaxprop.train.rows import Rows
from jaxprop.train.sources import Source

Order = np.ndarray | Future[np.ndarray]
CHUNK_BYTES = 16 * 2**20  # two chunks are alive at once


class Chunk(NamedTuple):
    """`steps` batches on the device, stacked along a leading axis (rows beyond `steps` are stale)."""

    batches: PyTree[Shaped[Array, "capacity B ..."]]
    steps: int
    rows: int


def epoch_order(seed: np.ndarray, epoch: int, rows: int) -> np.ndarray:
    """Return the order of rows in an epoch: a permutation that depends on the seed (a key's data) and the epoch alone.

    >>> sorted(epoch_order(np.array([0, 1], np.uint32), 0, 4).tolist())
    [0, 1, 2, 3]
    """
    return np.random.default_rng([*seed.ravel().tolist(), epoch]).permutation(rows)


class Batches:
    """The epochs of a training set: `epoch(order)` yields chunks of full batches, then the last partial one.

    A chunk holds as many batches as fit into 16 MiB. With `devices` they lie spread over these.
    """

    def __init__(self, source: Source, batch_size: int, devices: Devices | None = None) -> None:
        self.source, self.batch_size, self.rows, self.devices = source, batch_size, source.rows, devices
        like = source.read(np.zeros(1, int))  # one row says what all are like
        batch_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(like)) * batch_size
        self.full, self.rest = divmod(self.rows, batch_size)
        self.capacity = min(self.full, max(1, CHUNK_BYTES // max(1, batch_bytes)))
        # in a job of several processes, which of a batch's rows this one reads
        self.own = None if devices is None or jax.process_count() == 1 else devices.own(batch_size)
        self.read_a_batch = batch_size if self.own is None else len(self.own)
        # two sets of buffers, used in turn: touching fresh memory costs more than the copy. A set is written again
        # only when the chunk made of it has been used up, since `device_put` on a CPU does not copy
        self.buffers = [jax.tree.map(self._buffer, like) for _ in range(2)]
        self.turn = 0
        self.begun: tuple[Order, Future[Chunk]] | None = None  # the first chunk of the epoch to come

    @property
    def steps(self) -> int:
        """Steps in an epoch, the partial batch included."""
        return self.full + (self.rest > 0)

    def order(self, seed: np.ndarray, epoch: int) -> np.ndarray:
        """Return the order of rows in an epoch."""
        return epoch_order(seed, epoch, self.rows)

    def sizes(self, steps: int) -> np.ndarray:
        """Return how many rows each of the first steps of an epoch has."""
        sizes = np.full(steps, self.batch_size)
        sizes[self.full :] = self.rest
        return sizes

    def some(self, seed: np.ndarray, rows: int) -> Rows:
        """Return some rows, chosen at random: they may lie sorted."""
        return self.source.read(epoch_order(seed, 0, self.rows)[:rows])

    def epoch(
        self, order: Order, pool: ThreadPoolExecutor, first: int = 0, following: Order | None = None
    ) -> Iterator[Chunk]:
        """Yield the chunks of one epoch from its step `first` on, the next being gathered while one is used.

        following: the order of the epoch after it, whose first chunk is gathered while the last of this one is used.
        """
        own = [(order, *plan) for plan in self._plans(first)]
        plans = own if following is None else [*own, (following, *self._plans(0)[0])]
        begun, self.begun = self.begun, None
        if begun is not None and begun[0] is order and first == 0:
            ahead = begun[1]
        else:
            ahead = self._gather(pool, *plans[0]) if plans else None
        for i in range(len(own)):
            chunk, ahead = ahead, self._gather(pool, *plans[i + 1]) if i + 1 < len(plans) else None
            yield chunk.result()  # pyright: ignore[reportOptionalMemberAccess]
        if following is not None:
            self.begun = following, ahead  # pyright: ignore[reportAttributeAccessIssue]

    def _plans(self, first: int) -> list[tuple[int, int]]:
        """Where the chunks of an epoch from its step `first` on begin, and their steps; 0 for what is left over."""
        starts = range(first, self.full, max(1, self.capacity))
        plans = [(start, min(self.capacity, self.full - start)) for start in starts]
        return plans + ([(self.full, 0)] if self.rest and first < self.steps else [])

    def _gather(self, pool: ThreadPoolExecutor, order: Order, start: int, steps: int) -> Future[Chunk]:
        wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

        def gather() -> Chunk:
            with jax.enable_x64(wide):  # a thread does not see the setting of the one that started it
                return self._chunk(order.result() if isinstance(order, Future) else order, start, steps)

        return pool.submit(gather)

    def _chunk(self, order: np.ndarray, start: int, steps: int) -> Chunk:
        first = start * self.batch_size
        if steps == 0:  # what is left over after the last full batch
            numbers = order[first:]
            if self.own is not None and self.devices is not None:
                numbers = numbers[self.devices.own(self.rest)]
            tail = self.source.read(numbers)
            return Chunk(self._place(jax.tree.map(lambda a: a[None], tail), self.rest), 1, self.rest)
        chosen = order[first : first + steps * self.batch_size]
        if self.own is not None:
            chosen = chosen.reshape(steps, self.batch_size)[:, self.own].ravel()
        buffers = self.buffers[self.turn]
        self.turn = 1 - self.turn

        def stacked(array: np.ndarray) -> np.ndarray:
            # every chunk has the same shape, so that one program runs them all
            return array.reshape(self.capacity, self.read_a_batch, *array.shape[1:])

        chunk = self._place(jax.tree.map(stacked, self.source.read(chosen, buffers)), self.batch_size)
        return Chunk(jax.block_until_ready(chunk), steps, self.batch_size)

    def _place(self, batches: PyTree, rows: int) -> PyTree:
        if self.devices is None:
            return jax.device_put(batches)
        return self.devices.place_batches(batches) if self.own is None else self.devices.join_batches(batches, rows)

    def _buffer(self, array: np.ndarray) -> np.ndarray:
        return aligned((self.capacity * self.read_a_batch, *array.shape[1:]), array.dtype)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised array at a 64-byte boundary, which `device_put` on a CPU takes over without copying."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)
