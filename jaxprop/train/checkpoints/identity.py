"""What a run is of. A kept run goes on only as the same one, and what differs is named."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.train.checkpoints.described import array_sum, described
from jaxprop.train.sources import InMemory, Source, Stream

if TYPE_CHECKING:
    from jaxprop.train.run import Run

Identity = dict[str, dict[str, str]]  # what it is of, then its parts by path
SHOWN = 3


def identity(run: "Run") -> Identity:
    """Return what a run is of, before its first step."""
    recipe, monitor = run.recipe, run.monitor
    net = described(recipe.net)
    if isinstance(recipe.net, Layer):  # its `repr` says all but the code of layers of one's own
        net = {"": repr(recipe.net)} | {path: said for path, said in net.items() if "code of " in path}
    return {
        "network": net,
        "parameters": shapes(run.state.params),
        "cost": described(recipe.cost),
        "optimizer": described(recipe.optimizer),
        "optimizer's state": shapes(run.state.optimizer),
        "grad": {"": recipe.way},
        "rule": described(recipe.rule),
        "precision": {"": str(recipe.precision)},
        "batch_size": {"": str(run.batch_size)},
        "key": {"": f"{run.key.dtype} {jax.random.key_data(run.key).tolist()}"},
        "data": rows_sum(run.source),
        "validation": {} if run.validation is None else rows_sum(run.validation),
        "monitor": {} if monitor is None else {"every": str(monitor.every), **dict(zip(*named(monitor), strict=True))},
    }


def named(monitor: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of what is watched, and what each is."""
    return monitor.watch.names, tuple(map(repr, monitor.watch.quantities))


def shapes(tree: PyTree) -> dict[str, str]:
    """Return dtype and shape of every array of a tree.

    >>> shapes({"W": jax.numpy.zeros((2, 3), "float32")})
    {'W': 'float32[2, 3]'}
    """
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in by_path(tree).items()}


def rows_sum(rows: Any) -> dict[str, str]:
    """Return a sum of each array of rows, or what their source says that they are."""
    if isinstance(rows, Source | Stream) and not isinstance(rows, InMemory):
        return {path: str(said) for path, said in by_path(rows.digest()).items()}
    return {path: array_sum(array) for path, array in by_path(getattr(rows, "data", rows)).items()}


def check_same(kept: Mapping[str, Mapping[str, str]], now: Identity, where: object) -> None:
    """Raise JaxpropError that names what differs between a kept run and this one.

    >>> check_same({"batch_size": {"": "32"}}, {"batch_size": {"": "64"}}, "runs/mine")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: fit: runs/mine keeps another run: batch_size is 32 there and 64 here. Give what it ...
    """
    differing = {name: _differences(kept.get(name, {}), parts) for name, parts in now.items()}
    said = [f"{name}{parts}" for name, parts in differing.items() if parts]
    if said:
        others = [name for name, parts in differing.items() if parts][SHOWN:]
        more = f"; other is also {', '.join(others)}" if others else ""
        raise JaxpropError(
            f"fit: {where} keeps another run: {'; '.join(said[:SHOWN])}{more}. Give what it was begun with, or another "
            "folder for a new run"
        )


def _differences(kept: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs of one thing, in words; nothing if nothing does."""
    if kept == now:
        return ""
    paths = [path for path in {**kept, **now} if kept.get(path) != now.get(path)]
    # a setting with another value says more than a part that is there on one side alone
    paths.sort(key=lambda path: not (path in kept and path in now))
    said = []
    for path in paths[:SHOWN]:
        there, here = _around(kept.get(path, "nothing"), now.get(path, "nothing"))
        said.append(f"{f' {_short(path)}' if path else ''} is {there} there and {here} here")
    more = f", and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ",".join(said) + more


def _short(path: str) -> str:
    """The end of a path of functions within functions; that of an array whole.

    >>> _short("update.chain.update_fns.1.with_extra_args_support.tx.update.scale.step_size"), _short("0.W")
    ('scale.step_size', '0.W')
    """
    parts = path.split(".")
    return path if len(parts) < 6 else ".".join(parts[-2:])


def _around(there: str, here: str, most: int = 120) -> tuple[str, str]:
    """Two texts, or where they are long the part of each where they begin to differ."""
    if max(len(there), len(here)) <= most:
        return there, here
    shared = next((i for i, (a, b) in enumerate(zip(there, here, strict=False)) if a != b), 0)
    first = max(0, shared - most // 3)
    before = "…" if first else ""
    return f"{before}{there[first : first + most]}", f"{before}{here[first : first + most]}"
