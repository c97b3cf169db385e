"""How the benchmarks measure: in turn, in shuffled order, in one process; a ratio with its spread, no time alone."""

import argparse
import functools
import json
import pathlib
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

TOO_LARGE = 2 << 30


def in_turn(
    candidates: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each candidate in every round, after one warm-up; the order within a round is shuffled."""
    for run in candidates.values():
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    shuffled = random.Random(0)
    for _ in range(rounds):
        for name in shuffled.sample(list(candidates), len(candidates)):
            start = clock()
            jax.block_until_ready(candidates[name]())
            seconds[name].append(clock() - start)
    return seconds


def ratios(seconds: dict[str, list[float]], name: str, against: str) -> dict[str, float]:
    """name ÷ against: of the minima (the machine's noise only adds), and the median and spread round by round."""
    pairs = sorted(a / b for a, b in zip(seconds[name], seconds[against], strict=True))
    return {
        "of_minima": min(seconds[name]) / min(seconds[against]),
        "median": statistics.median(pairs),
        "low": pairs[len(pairs) // 4],
        "high": pairs[-1 - len(pairs) // 4],
    }


def columns(seconds: dict[str, list[float]], name: str, against: str) -> dict[str, Any]:
    """What a row of a table says of name ÷ against."""
    step = ratios(seconds, name, against)
    return {
        "step": round(step["of_minima"], 3),
        "median": round(step["median"], 3),
        "quartiles": f"{step['low']:.2f}–{step['high']:.2f}",
    }


def beside_gradient(
    programs: dict[str, Any], inputs: tuple[Any, ...], memory: dict[str, int], options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """{name: seconds of it and of the gradient}: ours in turn, others (" by ") apart, for what they do to the caches.

    What needs more than 2 GiB is not run.
    """
    runs = {name: functools.partial(p, *inputs) for name, p in programs.items() if memory[name] <= TOO_LARGE}
    others = [name for name in runs if " by " in name]
    clock = time.process_time if options.processor else time.perf_counter
    measure = functools.partial(in_turn, rounds=options.rounds, clock=clock)
    seconds = measure({name: run for name, run in runs.items() if name not in others})
    found = {name: seconds for name in seconds}
    for name in others:
        found[name] = measure({"gradient": runs["gradient"], name: runs[name]})
    return found


def arguments(
    description: str, rounds: int, named: bool = False, peers: bool = False, torch: bool = False, lines: bool = False
) -> argparse.Namespace:
    """The options that every benchmark has; `named` ones can measure some cases only, some also their `peers`."""
    parser = argparse.ArgumentParser(description=description)
    if named:
        parser.add_argument("--only", default="", help="the cases that have this in their name")
    if peers:
        parser.add_argument("--peers", action="store_true", help="measure other libraries beside ours")
        parser.add_argument("--quantities", default="", help="those that have one of these words, between commas")
    if lines:
        parser.add_argument("--lines", type=int, default=0, help="how many single operations to print")
    if torch:
        parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has torch")
    if peers or torch:
        parser.add_argument("--processor", action="store_true", help="seconds of the processor, for a busy machine")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there")
    return parser.parse_args()


def report(options: argparse.Namespace, title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table, and write it as JSON with the device and versions."""
    device = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    print(f"{title} · {device} · {options.rounds} rounds in turn")
    keys = dict.fromkeys(key for row in rows for key in row)
    widths = {key: max(len(key), *(len(_text(row.get(key))) for row in rows)) for key in keys}
    for line in [{key: key for key in widths}, *rows]:
        print("  ".join(_text(line.get(key)).ljust(width) for key, width in widths.items()).rstrip())
    if options.json:
        options.json.write_text(json.dumps({"title": title, "device": device, "rows": rows}, indent=1) + "\n")


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
