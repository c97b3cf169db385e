"""How long the event loop is held up by what else it does."""

import asyncio
import contextlib
import time


@contextlib.asynccontextmanager
async def lag():
    """Yield a list whose one value is, on leaving, the longest that a task which is always ready had to wait."""
    worst, over = [0.0], asyncio.Event()

    async def tick():
        last = time.perf_counter()
        while not over.is_set():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            worst[0] = max(worst[0], now - last - 0.001)
            last = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    try:
        yield worst
    finally:
        over.set()
        await ticking
