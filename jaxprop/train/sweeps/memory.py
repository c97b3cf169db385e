"""How many runs fit into memory at once."""

import os
from collections.abc import Sequence
from typing import Any

SHARE = 0.5  # of the memory that is free
UNKNOWN = 4 * 2**30  # bytes, where nobody tells


def room(devices: Sequence[Any]) -> int:
    """Return the bytes that a program may take on each device: half of what is free."""
    told = devices[0].memory_stats() or {}
    if "bytes_limit" in told:
        return int(SHARE * (told["bytes_limit"] - told.get("bytes_in_use", 0)))
    shared = len(devices) if devices[0].platform == "cpu" else 1
    return int(SHARE * _free()) // shared


def _free() -> int:
    """Bytes that this machine has free."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return UNKNOWN


def taken(compiled: Any) -> int:
    """Return the bytes that a compiled program takes on each device while it runs, or 0 where XLA does not tell.

    >>> import jax, jax.numpy as jnp
    >>> taken(jax.jit(lambda x: x @ x).lower(jnp.ones((64, 64))).compile()) >= 2 * 64 * 64 * 4
    True
    """
    found = compiled.memory_analysis()
    if found is None:
        return 0
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return held + found.temp_size_in_bytes


def evenly(runs: int, at_once: int, devices: int = 1) -> int:
    """Return how many runs go together, so that all goes of them are of one size: `at_once` at most.

    A multiple of the devices where `at_once` allows it, for each has the same number of them.

    >>> evenly(32, 20), evenly(32, 100), evenly(33, 32, devices=2), evenly(5, 1, devices=2)
    (16, 32, 18, 2)
    """
    at_once = max(at_once // devices * devices, devices)
    goes = -(-runs // at_once)
    return -(-runs // (goes * devices)) * devices
