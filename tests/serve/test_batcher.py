"""The batcher's eight rules, on numpy executables that note what they were given."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.batcher import Batcher, Lane
from jaxprop_serve.models.queue import Queue
from jaxprop_serve.models.statistics import Statistics

BUCKETS = (1, 2, 4)
EVEN = dict.fromkeys(BUCKETS, 1e-5)  # any batch takes as long: padding is always worth it


class Device:
    """y = 2 x + 1; fails on rows that hold −1, waits for `gate` if there is one."""

    def __init__(self):
        self.seen, self.threads, self.gate = [], set(), None

    def __call__(self, inputs):
        x = inputs["x"]
        self.threads.add(threading.current_thread())
        self.seen.append(x[:, 0].tolist())
        if self.gate is not None:
            assert self.gate.wait(10)
        if (x < 0).any():
            raise FloatingPointError("below zero")
        return {"y": 2 * x + 1}


def a_batcher(lane=None, seconds=EVEN, **limits):
    device = Device()
    limits = dict(max_queue_rows=100, max_queue_bytes=10_000) | limits
    executables = dict.fromkeys(seconds, device)
    return Batcher("m", executables, seconds, lane or Lane(), Statistics(), **limits), device


def rows(*values):
    return {"x": np.array(values, np.float32)[:, None]}


def test_one_request_at_an_idle_server_is_computed_before_the_loop_turns():
    async def main():
        batcher, device = a_batcher()
        with pytest.raises(StopIteration) as answer:  # no await that could let anything else run
            batcher.infer(rows(1, 2)).send(None)
        assert answer.value.value["y"].tolist() == [[3], [5]] and device.seen == [[1, 2]]

    asyncio.run(main())


def test_what_waits_together_is_computed_together_padded_and_given_back_to_whom_it_belongs():
    async def main():
        batcher, device = a_batcher()
        answers = await asyncio.gather(*(batcher.infer(rows(*values)) for values in ([0], [1, 2], [3, 4], [5], [6])))
        assert [a["y"][:, 0].tolist() for a in answers] == [[1], [3, 5], [7, 9], [11], [13]]
        # the first at once, then what waits in whole requests; row 0 fills up the bucket
        assert device.seen == [[0], [1, 2, 3, 4], [5, 6]]
        # after such a batch the first waits too, for those that come in the same round of the loop
        await asyncio.gather(*(batcher.infer(rows(*values)) for values in ([7], [1, 2])))
        assert device.seen[3:] == [[7, 1, 2, 7]]
        told = batcher.statistics.describe("m", "1")
        assert (told["inference_count"], told["execution_count"], batcher.statistics.padded_rows) == (10, 4, 1)
        assert told["inference_stats"]["success"]["count"] == told["inference_stats"]["queue"]["count"] == 7
        assert {b["batch_size"]: b["compute_infer"]["count"] for b in told["batch_stats"]} == {1: 1, 2: 1, 3: 1, 4: 1}
        assert batcher.statistics.queue_rows == batcher.queue.nbytes == 0
        await batcher.infer(rows(1))
        with pytest.raises(StopIteration):  # alone again: at once
            batcher.infer(rows(1)).send(None)

    asyncio.run(main())


def test_where_rows_cost_time_a_bucket_is_filled_rather_than_padded():
    async def main():
        for last, expected in ((0.1, [[1, 2, 3, 1]]), (1.0, [[1, 2], [3]])):
            batcher, device = a_batcher(seconds={1: 0.1, 2: 0.2, 4: last})
            await asyncio.gather(*(batcher.infer(rows(value)) for value in range(4)))
            assert device.seen == [[0], *expected]

    asyncio.run(main())


def test_a_request_larger_than_the_largest_batch_is_split_and_rejoined():
    async def main():
        batcher, device = a_batcher(max_queue_rows=3)  # more than could ever wait, yet nothing waits
        answer = await batcher.infer(rows(*range(11)))
        assert answer["y"][:, 0].tolist() == [2 * i + 1 for i in range(11)]
        assert device.seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 8]]
        with pytest.raises(ServeError, match="below zero"):
            await batcher.infer(rows(-1, 1, 2, 3, 4))
        told = batcher.statistics.describe("m", "1")["inference_stats"]  # requests, not their parts
        assert {name: told[name]["count"] for name in ("success", "fail", "queue")} == dict(success=1, fail=1, queue=2)

    asyncio.run(main())


def test_only_the_guilty_fail_and_the_next_are_served():
    async def main():
        batcher, _ = a_batcher()
        for bad in range(1, 9):
            values = [-1 if i == bad else i for i in range(9)]
            answers = await asyncio.gather(*(batcher.infer(rows(v)) for v in values), return_exceptions=True)
            failed = [i for i, answer in enumerate(answers) if isinstance(answer, Exception)]
            assert failed == [bad] and answers[bad].status == 500 and "below zero" in answers[bad].text
            assert all(answers[i]["y"] == 2 * i + 1 for i in range(9) if i != bad)
        with pytest.raises(ServeError, match="'m' failed: FloatingPointError: below zero"):
            await batcher.infer(rows(-1))
        await asyncio.sleep(0)
        assert (batcher.statistics.fail.count, batcher.statistics.success.count) == (9, 64)

    asyncio.run(main())


def in_a_thread(test):
    """Run test(batcher, device) with a device in a thread that waits for device.gate."""

    async def main():
        with ThreadPoolExecutor(1) as pool:
            batcher, device = a_batcher(Lane(pool), max_queue_rows=6)
            device.gate = threading.Event()
            try:
                await asyncio.wait_for(test(batcher, device), 10)
            finally:
                device.gate.set()

    asyncio.run(main())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_a_slow_model_leaves_the_loop_free_and_its_queue_is_bounded():
    async def test(batcher, device):
        first = asyncio.create_task(batcher.infer(rows(0)))
        await until(lambda: device.seen)  # the loop turns while it computes
        assert device.threads.isdisjoint([threading.main_thread()])
        waiting = [asyncio.create_task(batcher.infer(rows(i, i))) for i in (1, 2, 3)]
        await asyncio.sleep(0)
        assert batcher.statistics.queue_rows == 6
        for refused in (batcher.infer(rows(9)), asyncio.to_thread(batcher.admit)):
            with pytest.raises(ServeError, match=r"6 rows .* are waiting") as error:
                await refused
            assert error.value.status == 429 and error.value.retry_after > 0
        device.gate.set()
        assert [(await one)["y"][0, 0] for one in (first, *waiting)] == [1, 3, 5, 7]
        assert device.seen == [[0], [1, 1, 2, 2], [3, 3]] and batcher.statistics.queue_rows == 0
        batcher.admit()

    in_a_thread(test)


def test_bytes_are_bounded_too():
    async def test(batcher, device):
        batcher.queue = Queue(batcher.statistics, 6, 8)
        tasks = [asyncio.create_task(batcher.infer(rows(0)))]
        await until(lambda: device.seen)
        tasks += [asyncio.create_task(batcher.infer(rows(i))) for i in range(1, 4)]
        await until(tasks[-1].done)
        with pytest.raises(ServeError, match=r"2 rows \(8 bytes\) are waiting") as error:
            tasks[-1].result()
        assert error.value.status == 429
        device.gate.set()
        assert [(await one)["y"].item() for one in tasks[:3]] == [1, 3, 5]

    in_a_thread(test)


def test_who_gave_up_and_what_expired_is_not_computed():
    async def test(batcher, device):
        first = asyncio.create_task(batcher.infer(rows(0)))
        await until(lambda: device.seen)
        gone = asyncio.create_task(batcher.infer(rows(1)))
        late = asyncio.create_task(batcher.infer(rows(2), time.monotonic() + 0.005))
        good = asyncio.create_task(batcher.infer(rows(3), time.monotonic() + 60))
        await asyncio.sleep(0.01)
        gone.cancel()
        first.cancel()  # under way: its answer is for nobody
        device.gate.set()
        assert (await good)["y"].item() == 7
        with pytest.raises(ServeError) as error:
            await late
        assert error.value.status == 504
        assert device.seen == [[0], [3]]
        statistics = batcher.statistics
        assert (statistics.expired, statistics.cancelled, statistics.queue_rows) == (1, 2, 0)
        with pytest.raises(ServeError, match="time was over"):
            await batcher.infer(rows(4), time.monotonic())

    in_a_thread(test)


def test_models_take_turns():
    async def main():
        lane = Lane()
        one, device = a_batcher(lane)
        other, _ = a_batcher(lane)
        other.executables = one.executables
        await asyncio.gather(*(one.infer(rows(i)) for i in range(13)), *(other.infer(rows(i)) for i in (50, 51)))
        assert device.seen == [[0], [1, 2, 3, 4], [50, 51], [5, 6, 7, 8], [9, 10, 11, 12]]

    asyncio.run(main())


def test_a_delay_waits_for_more_but_only_while_requests_come_often():
    async def main():
        batcher, device = a_batcher(max_delay=0.2)
        began = time.monotonic()
        await batcher.infer(rows(0, 1, 2))
        assert time.monotonic() - began < 0.15  # nobody came lately: no wait
        batcher.gap = 1e-4
        first = asyncio.create_task(batcher.infer(rows(0, 1, 2)))
        await asyncio.sleep(0.02)
        assert len(device.seen) == 1
        await asyncio.gather(first, batcher.infer(rows(3)))
        assert device.seen[1:] == [[0, 1, 2, 3]] and time.monotonic() - began < 0.15  # full: no longer

    asyncio.run(main())
