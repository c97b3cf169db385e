"""Batches of a stream, in the order in which it gives them, in the form in which `Batches` gives its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprop.train.batches import CHUNK_BYTES, Chunk, aligned
from jaxprop.train.devices import Devices
from jaxprop.train.rows import Rows
from jaxprop.train.sources import Stream


class Streamed:
    """The epochs of a stream: batches of one shape are put together in chunks; one of another shape has its own.

    In a job of several processes each has a stream of its own, which gives its part of every batch; they are joined.
    """

    def __init__(
        self, stream: Stream, devices: Devices | None = None, check: Callable[[Rows], None] = lambda rows: None
    ) -> None:
        self.stream, self.devices, self.check = stream.begun(), devices, check
        first = stream.one()
        self.processes = 1 if devices is None else jax.process_count()
        self.batch_size = len(first.targets) * self.processes
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(first))
        self.capacity = min(stream.steps or 2**31, max(1, CHUNK_BYTES // max(1, size)))
        self.buffers = [jax.tree.map(self._buffer, first) for _ in range(2)]  # used in turn, as those of `Batches`
        self.turn = 0
        self.seen: list[int] = []  # the rows of each step of this epoch
        self.latest: int | None = stream.steps  # the steps of an epoch, as far as that is known

    rows = 2**62  # of an epoch, nobody knows

    @property
    def steps(self) -> int | None:
        """Steps in an epoch; None before a stream without `steps_per_epoch` has come to its end."""
        return self.latest

    def order(self, seed: np.ndarray, epoch: int) -> int:
        """Return what `epoch` goes by: the stream has an order of its own."""
        return epoch

    def sizes(self, steps: int) -> np.ndarray:
        """Return how many rows each of the first steps of this epoch has."""
        return np.array(self.seen[:steps])

    def some(self, seed: np.ndarray, rows: int) -> Rows:
        """Return some rows: the first ones."""
        return self.stream.first(rows)

    def epoch(
        self, order: Future[int], pool: ThreadPoolExecutor, first: int = 0, following: Future[int] | None = None
    ) -> Iterator[Chunk]:
        """Yield the chunks of one epoch from its step `first` on, the next being gathered while one is used."""
        batches = self.stream.epoch(order.result(), first, self.check)
        self.seen = self.seen[:first] if len(self.seen) >= first else [self.batch_size] * first
        wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
        left: list[Rows] = []  # a batch that was read, and did not fit into its chunk
        pending = pool.submit(self._gather, batches, left, wide)
        while (chunk := pending.result()) is not None:
            pending = pool.submit(self._gather, batches, left, wide)
            self.seen += [chunk.rows] * chunk.steps
            yield chunk
        self.latest = self.stream.steps or len(self.seen)

    def _gather(self, batches: Iterator[Rows], left: list[Rows], wide: bool) -> Chunk | None:
        with jax.enable_x64(wide):  # a thread does not see the setting of the one that started it
            return self._chunk(batches, left)

    def _chunk(self, batches: Iterator[Rows], left: list[Rows]) -> Chunk | None:
        buffers, steps = self.buffers[self.turn], 0
        like = jax.tree.map(lambda part: (part.shape[1:], part.dtype), buffers)
        while steps < self.capacity:
            batch = left.pop() if left else next(batches, None)
            if batch is None:
                break
            if jax.tree.map(lambda part: (part.shape, part.dtype), batch) != like:
                if steps:
                    left.append(batch)
                    break
                alone = jax.tree.map(lambda part: part[None], batch)
                rows = len(batch.targets) * self.processes
                return Chunk(jax.block_until_ready(self._place(alone, rows)), 1, rows)
            jax.tree.map(lambda part, buffer, i=steps: np.copyto(buffer[i], part), batch, buffers)
            steps += 1
        if not steps:
            return None
        self.turn = 1 - self.turn
        return Chunk(jax.block_until_ready(self._place(buffers, self.batch_size)), steps, self.batch_size)

    def _place(self, batches: PyTree, rows: int) -> PyTree:
        if self.devices is None:
            return jax.device_put(batches)
        return self.devices.place_batches(batches) if self.processes == 1 else self.devices.join_batches(batches, rows)

    def _buffer(self, array: np.ndarray) -> np.ndarray:
        return aligned((self.capacity, *array.shape), array.dtype)
