"""Loads and unloads in turn: what waits together is one, what nobody waits for is dropped, the last one counts."""

import asyncio

import pytest

from jaxprop_serve.models.turns import Turns


class Operations:
    """Operations that end when they are told to, and what was done of them."""

    def __init__(self):
        self.turns, self.done, self.gate = Turns(), [], asyncio.Event()

    def ask(self, kind, name="m"):
        async def work():
            await self.gate.wait()
            self.done.append(kind if name == "m" else f"{kind} {name}")

        return asyncio.create_task(self.turns.take(name, kind, work))

    async def end(self):
        self.gate.set()
        while self.turns.tasks:
            await asyncio.sleep(0)
        assert not self.turns._queues and not self.turns._loading.locked()
        return self.done


def asked(test):
    async def main():
        return await test(Operations())

    return asyncio.run(asyncio.wait_for(main(), 10))


async def some_turns():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "order, done",
    [
        (["load"] * 40, ["load", "load"]),  # one that runs, and one for all others
        (["load", "unload", "load"], ["load", "unload", "load"]),
        (["unload", "unload", "unload", "load", "load"], ["unload", "unload", "load"]),
        (["load", "unload", "unload", "load", "load", "unload"], ["load", "unload", "load", "unload"]),
    ],
)
def test_what_waits_together_is_one_and_everybody_hears_of_it(order, done):
    async def test(operations):
        tasks = [operations.ask(order[0])]
        await some_turns()  # the first has begun
        tasks += [operations.ask(kind) for kind in order[1:]]
        await some_turns()
        found = await operations.end()
        await asyncio.gather(*tasks)
        return found

    assert asked(test) == done


@pytest.mark.parametrize(
    "order, given_up, done",
    [
        (["load", "load", "load"], [1, 2], ["load"]),
        (["load", "load", "load"], [1], ["load", "load"]),  # somebody still waits for it
        (["load", "load"], [0, 1], ["load"]),  # what has begun is ended
        (["load", "unload", "load"], [2], ["load", "unload", "load"]),  # the last one asked for counts
        (["load", "unload", "load", "unload"], [2], ["load", "unload", "unload"]),
        (["load", "unload"], [1], ["load", "unload"]),
        (["load", "unload", "load", "unload", "load", "unload", "load"], [1, 2, 3, 4, 5], ["load", "load"]),
    ],
)
def test_what_nobody_waits_for_is_dropped_unless_it_decides_how_the_model_ends(order, given_up, done):
    async def test(operations):
        tasks = [operations.ask(order[0])]
        await some_turns()
        tasks += [operations.ask(kind) for kind in order[1:]]
        await some_turns()
        for i in given_up:
            tasks[i].cancel()
        await some_turns()
        found = await operations.end()
        await asyncio.gather(*(task for i, task in enumerate(tasks) if i not in given_up))
        return found

    assert asked(test) == done


def test_loads_of_other_models_wait_too_and_are_dropped_too():
    """A hundred made-up names leave nothing behind; an unload need not wait for the load of another model."""

    async def test(operations):
        first = operations.ask("load")
        await some_turns()
        others = [operations.ask("load", f"n{i}") for i in range(100)]
        kept, unload = operations.ask("load", "kept"), operations.ask("unload", "other")
        await some_turns()
        assert len(operations.turns._queues) == 103
        for other in others:
            other.cancel()
        await some_turns()
        assert set(operations.turns._queues) == {"m", "kept", "other"} and len(operations.turns.tasks) == 3
        found = await operations.end()
        await asyncio.gather(first, kept, unload)
        return found

    assert asked(test) == ["load", "unload other", "load kept"]


def test_a_failure_is_heard_by_all_who_wait_and_the_next_goes_on():
    async def test(operations):
        async def fails():
            raise ValueError("no")

        tasks = [asyncio.create_task(operations.turns.take("m", "load", fails)) for _ in range(3)]
        last = operations.ask("unload")
        found = await operations.end()
        await last
        assert [str(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == ["no"] * 3
        return found

    assert asked(test) == ["unload"]
