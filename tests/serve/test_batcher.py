"""The batcher's eight rules, on numpy executables that note what they were given."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.batcher import Batcher, Lane
from jaxprop_serve.models.queue import Queue, Request
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
            batcher, device = a_batcher(Lane(pool), seconds=dict.fromkeys(BUCKETS, 1.0), max_queue_rows=6)
            device.gate = threading.Event()
            try:
                await asyncio.wait_for(test(batcher, device), 10)
            finally:
                device.gate.set()

    asyncio.run(main())


def test_few_rows_of_a_slow_model_are_computed_at_once_and_many_in_the_thread():
    async def main():
        with ThreadPoolExecutor(1) as pool:
            batcher, device = a_batcher(Lane(pool), seconds={1: 1e-5, 2: 1e-5, 4: 1.0})
            with pytest.raises(StopIteration) as answer:
                batcher.infer(rows(1, 2)).send(None)
            assert answer.value.value["y"].tolist() == [[3], [5]]
            assert device.threads == {threading.main_thread()}
            await asyncio.sleep(0)
            device.threads.clear()
            await batcher.infer(rows(1, 2, 3))
            assert device.threads.isdisjoint([threading.main_thread()])

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


def run(test):
    """Run it in a loop of its own, and give up on what hangs."""
    asyncio.run(asyncio.wait_for(test, 10))


class Turns:
    """Notes which batch each row was computed in, over `batcher.take`."""

    def __init__(self, batcher):
        self.batcher, self.batches, self.clocks, self._take = batcher, [], [], batcher.take
        batcher.take = self.take

    def take(self):
        batch = self._take()
        self.clocks.append(self.batcher.queue.clock)
        if batch:
            self.batches.append([value for request in batch for value in request.inputs["x"][:, 0].tolist()])
        return batch

    def of(self, value):
        return next(i for i, batch in enumerate(self.batches) if value in batch)


def asks(batcher, client, *values, deadline=None):
    return asyncio.create_task(batcher.infer(rows(*values), deadline, lambda: client))


@pytest.mark.parametrize("client", ["another", "the same"])
def test_a_large_request_takes_turns_with_small_ones(client):
    async def main():
        batcher, device = a_batcher(max_queue_rows=100)
        turns = Turns(batcher)
        large = asks(batcher, "the same", *range(1000, 1400))  # a hundred batches
        small = []
        for i in range(20):
            await until_next_batch(turns)
            small.append((len(turns.batches), i, asks(batcher, client, i)))
        for before, i, task in small:
            assert (await task)["y"].item() == 2 * i + 1
            assert turns.of(i) - before <= 2, "one batch may be due before it, not a hundred"
        assert not large.done()
        assert (await large)["y"][:, 0].tolist() == [2 * i + 1 for i in range(1000, 1400)]
        assert sum(len(seen) == 4 for seen in device.seen) == 100, "a part is a whole batch"

    run(main())


async def until_next_batch(turns):
    before = len(turns.batches)
    while len(turns.batches) == before:
        await asyncio.sleep(0)


def test_many_small_requests_and_a_large_one_have_equal_shares():
    async def main():
        batcher, _ = a_batcher(max_queue_rows=200)
        turns = Turns(batcher)
        await asyncio.gather(asks(batcher, "a", *range(1000, 1040)), *(asks(batcher, "a", i) for i in range(40)))
        small = [batch[0] < 1000 for batch in turns.batches]
        assert abs(small[:16].count(True) - 8) <= 1 and len(small) <= 22, small

    run(main())


def test_large_requests_take_turns():
    async def main():
        batcher, device = a_batcher(max_queue_rows=20)
        firsts = (0, 100, 200)
        tasks = [asks(batcher, client, *range(i, i + 12)) for client, i in zip("abb", firsts, strict=True)]
        for i, task in zip(firsts, tasks, strict=True):
            assert (await task)["y"][:, 0].tolist() == [2 * j + 1 for j in range(i, i + 12)]
        order = [int(seen[0]) // 100 for seen in device.seen]
        assert order.index(1) < 3 and order.index(2) < 5 and order[-1] != 0, order  # a has half of the turns
        assert batcher.queue.rows == batcher.queue.nbytes == batcher.statistics.queue_rows == 0

    run(main())


def test_one_client_leaves_a_tenth_of_the_queue_to_others():
    async def test(batcher, device):
        batcher.queue = queue = Queue(batcher.statistics, 100, 4000)
        first = asks(batcher, "a", 0)
        await until(lambda: device.seen)
        greedy = [asks(batcher, "a", 1) for _ in range(200)]
        await until(lambda: sum(task.done() for task in greedy) == 110)
        assert queue.rows == 90
        with pytest.raises(ServeError, match=r"90 rows .* are waiting, .* 90 of them \(360 bytes\) are this client's"):
            batcher.admit(lambda: "a")
        batcher.admit(lambda: "b")
        others = [asks(batcher, name, 2) for name in "bcdefghij"]  # and even of the tenth nobody takes all
        await asyncio.sleep(0)
        assert not any(task.done() for task in others) and queue.rows == 99
        device.gate.set()
        assert [(await task)["y"].item() for task in others] == [5] * 9
        assert (
            sum(isinstance(found, ServeError) for found in await asyncio.gather(*greedy, return_exceptions=True)) == 110
        )
        await first

    in_a_thread(test)


def test_one_large_request_leaves_a_tenth_of_the_queue_to_others():
    async def test(batcher, device):
        batcher.answer_bytes = 1000  # beyond all bounds together with its answer
        batcher.queue = queue = Queue(batcher.statistics, 10, 4000)
        first = asks(batcher, "a", 0)
        await until(lambda: device.seen)
        large = asks(batcher, "a", *range(100, 120))
        await asyncio.sleep(0)
        assert (queue.rows, queue.nbytes, batcher.statistics.queue_rows) == (4, 3600, 20)
        refused = [asks(batcher, name, *range(100, 120)) for name in "ab"]  # no bytes are left for another
        small = [asks(batcher, "b", i) for i in (1, 2)]
        for one in refused:
            with pytest.raises(ServeError, match="are waiting"):
                await one
        device.gate.set()
        assert [(await task)["y"].item() for task in small] == [3, 5] and not large.done()
        assert device.seen[1] == [1, 2], "who asks for little does not wait for a part"
        assert len((await large)["y"]) == 20
        await first

    in_a_thread(test)


@pytest.mark.parametrize("rows_each", [1, 4])
def test_who_asks_seldom_comes_with_the_next_batch(rows_each):
    async def main():
        batcher, _ = a_batcher(max_queue_rows=1000)
        turns = Turns(batcher)
        greedy = [asks(batcher, "greedy", *[1000 + i] * rows_each) for i in range(240 // rows_each)]
        for i in range(5):
            await until_next_batch(turns)
            before = len(turns.batches)
            await asks(batcher, "polite", i)
            assert turns.of(i) - before <= 2
        assert not greedy[-1].done()
        await asyncio.gather(*greedy)
        assert not batcher.queue.clients, "nothing is kept of clients that do not wait"

    run(main())


@pytest.mark.parametrize("end", ["fails", "is given up", "expires"])
def test_what_is_left_of_a_large_request_that_is_over_is_not_computed(end):
    async def test(batcher, device):
        soon = time.monotonic() + 0.02
        values = [1, 2, 3, 4, 5, -6 if end == "fails" else 6, *range(7, 41)]
        large = asks(batcher, "a", *values, deadline=soon if end == "expires" else None)
        await until(lambda: device.seen)
        beside = asks(batcher, "a", 99)
        if end == "is given up":
            large.cancel()
        elif end == "expires":
            await asyncio.sleep(0.03)
        device.gate.set()
        error = (await asyncio.gather(large, return_exceptions=True))[0]
        assert (await beside)["y"].item() == 199
        expected = {"fails": "below zero", "is given up": "", "expires": "time was over"}[end]
        assert expected in str(error) and (end == "is given up") == isinstance(error, asyncio.CancelledError)
        statistics, queue = batcher.statistics, batcher.queue
        await until(lambda: not queue.turns)
        assert len(device.seen) <= 3 and queue.rows == queue.nbytes == statistics.queue_rows == 0
        found = statistics.fail.count, statistics.cancelled, statistics.expired, statistics.success.count
        assert found == {"fails": (1, 0, 0, 1), "is given up": (0, 1, 0, 1), "expires": (0, 0, 1, 1)}[end]

    in_a_thread(test)


def test_what_is_dropped_costs_its_client_nothing_and_turns_no_clock_back():
    queue = Queue(Statistics(), 1000, 1000)
    for name, size in [("a", 60), ("a", 1), *[("b", 1)] * 50]:
        queue.put(Request({}, size, None, None), 0, name)
    for _ in range(50):
        queue.take()
    queue.drop()
    queue.put(Request({}, 2, None, None), 0, "b")
    assert [(queue.take().rows, queue.clock) for _ in range(2)] == [(1, 51), (2, 52)]


ASKED = st.tuples(
    st.sampled_from(["a", "b", "c", None]), st.integers(1, 14), st.sampled_from([False] * 7 + [True]),
    st.sampled_from([None] * 5 + [0.0005]),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(ASKED, ASKED, st.integers(0, 4), st.tuples(st.just("leaves"), st.integers(0, 20))), max_size=30
)


async def whatever_comes(batcher, steps):
    """Ask, leave and wait in some order; what was asked is [(values, bad, task, batches before it or None)]."""
    turns, asked, number = Turns(batcher), [], 0
    for step in steps:
        if isinstance(step, int):
            for _ in range(step):
                await asyncio.sleep(0)
        elif step[0] == "leaves":
            if asked:
                asked[step[1] % len(asked)][2].cancel()
        else:
            client, size, bad, seconds = step
            values = [*range(number + 1, number + size + 1)]
            number += size
            values[size // 2] *= -1 if bad else 1
            alone = size == 1 and client not in batcher.queue.clients
            most = len(turns.batches) + 2 * len(batcher.queue.turns) + 2 if alone else None
            deadline = time.monotonic() + seconds if seconds else None
            asked.append((values, bad, asks(batcher, client, *values, deadline=deadline), most))
            await asyncio.sleep(0)
    found = await asyncio.wait_for(asyncio.gather(*(task for _, _, task, _ in asked), return_exceptions=True), 30)
    return turns, asked, found


@pytest.mark.parametrize("lane", ["loop", "thread"])
@pytest.mark.parametrize("examples", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_whatever_comes_everybody_is_answered_and_nothing_stays(examples, lane):
    @hypothesis.settings(max_examples=examples, deadline=None, database=None, derandomize=examples == 20)
    @hypothesis.given(STEPS, st.sampled_from([5, 20, 1000]))
    def check(steps, most_rows):
        async def main(pool):
            batcher, _ = a_batcher(Lane(pool), max_queue_rows=most_rows)
            turns, asked, found = await whatever_comes(batcher, steps)
            for (values, bad, _, most), answer in zip(asked, found, strict=True):
                if isinstance(answer, ServeError):
                    assert answer.status in ((429, 500, 504) if bad else (429, 504)), answer
                elif not isinstance(answer, asyncio.CancelledError):
                    assert not bad and answer["y"][:, 0].tolist() == [2 * value + 1 for value in values]
                    computed = [value for batch in turns.batches for value in batch]
                    assert most is None or values[0] not in computed or turns.of(values[0]) <= most
            queue, statistics = batcher.queue, batcher.statistics
            await until(lambda: not batcher.lane.busy)
            assert turns.clocks == sorted(turns.clocks), "who comes now would pass who waits"
            assert not queue.turns and not queue.clients and not batcher.lane.turns
            assert queue.rows == queue.nbytes == statistics.queue_rows == 0
            assert statistics.success.count >= sum(isinstance(answer, dict) for answer in found)
            computed = sum(len(values) for values, _, _, _ in asked)
            assert statistics.inference_count <= computed

        if lane == "loop":
            run(main(None))
        else:
            with ThreadPoolExecutor(1) as pool:
                run(main(pool))

    check()
