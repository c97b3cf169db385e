"""What a sweep goes over: the combinations of its settings, and which of net, cost and optimizer takes which."""

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly

Setting = dict[str, Any]
BATCH_SIZE = "batch_size"  # of the settings, the one that `sweep` takes itself
RESERVED = (
    "seed", "epochs", "cost", "validation_cost", "validation_accuracy", "validation_r2", "best_epoch", "diverged",
)  # fmt: skip


def combinations(given: Any) -> list[Setting]:
    """Return the settings of every run: all combinations of a dict of lists, or those of a list of dicts as they are.

    >>> combinations({"rate": [0.1, 1.0], "units": [8, 16]})[:2]
    [{'rate': 0.1, 'units': 8}, {'rate': 0.1, 'units': 16}]
    >>> combinations([{"rate": 0.1, "units": 8}, {"rate": 0.3, "units": 16}])[1], combinations(None)
    ({'rate': 0.3, 'units': 16}, [{}])
    """
    if given is None:
        return [{}]
    if isinstance(given, Mapping):
        values = [_values(name, value) for name, value in given.items()]
        found = [dict(zip(given, chosen, strict=True)) for chosen in itertools.product(*values)]
    elif isinstance(given, Sequence) and given and all(isinstance(one, Mapping) for one in given):
        found = [{name: _plain(value) for name, value in one.items()} for one in given]
        for one in found:
            if set(one) != set(found[0]):
                raise JaxpropError(
                    f"sweep: the dicts of settings must all have the same names, found {_listed(found[0])} and "
                    f"{_listed(one)}"
                )
    else:
        raise JaxpropError(
            "sweep: settings must be a dict of lists, such as {'learning_rate': [0.1, 0.3]}, or a list of dicts, found "
            f"{shortly(given)}"
        )
    for name in found[0]:
        if not isinstance(name, str) or name in RESERVED:
            what = (
                "a name" if not isinstance(name, str) else f"another name than {name!r}, which is a column of its own"
            )
            raise JaxpropError(f"sweep: a setting must have {what}, found {name!r}")
    return found


def _values(name: str, given: Any) -> list[Any]:
    one = isinstance(given, str | bytes | Mapping | Layer | Cost | optax.GradientTransformation)
    try:
        values = [] if one else [_plain(value) for value in given]
    except TypeError:  # not iterable, as a number is
        values, one = [], True
    if one or not values:
        hint = f"; write [{shortly(given)}]" if one else ""
        raise JaxpropError(f"sweep: settings: {name} must be a list of one value or more, found {shortly(given)}{hint}")
    return values


def _plain(value: Any) -> Any:
    """A number of NumPy's or JAX's as Python's own."""
    single = isinstance(value, np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0
    return value.item() if single else value


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"


@dataclass(frozen=True)
class Makers:
    """What makes the net, the cost and the optimizer of a setting; `takes` has the settings that each is given.

    None in `takes` stands for a thing that is made already.
    """

    net: Any
    cost: Any
    optimizer: Any
    takes: tuple[tuple[str, tuple[str, ...] | None], ...]  # by part; no dict, for programs are kept by it

    @classmethod
    def of(cls, net: Any, cost: Any, optimizer: Any, names: Sequence[str]) -> "Makers":
        """Find out who takes which setting, by the names in each function's signature."""
        takes = {
            "net": None if isinstance(net, Layer) else _taken(net, names) or None,
            "cost": None if isinstance(cost, Cost) else _taken(cost, names) or None,
            "optimizer": None if isinstance(optimizer, optax.GradientTransformation) else _taken(optimizer, names),
        }
        if not (takes["optimizer"] is None or callable(optimizer)):
            raise JaxpropError(
                "sweep: make_optimizer must be a function of the settings, such as optax.adam or "
                f"lambda rate: optax.sgd(rate, 0.9), or one of optax's optimizers, found {shortly(optimizer)}"
            )
        made = cls(net, cost, optimizer, tuple(takes.items()))
        made._check_all_taken(names)
        for part, maker in (("net", net), ("cost", cost), ("make_optimizer", optimizer)):
            if takes[part.removeprefix("make_")] is not None:
                _check_needs(part, maker, names)
        return made

    def taken(self, part: str) -> tuple[str, ...]:
        """Return the settings that a part is made of."""
        return dict(self.takes)[part] or ()

    def made(self, part: str, setting: Mapping[str, Any]) -> Any:
        """Return the net, cost or optimizer of a setting."""
        maker, names = getattr(self, part), dict(self.takes)[part]
        return maker if names is None else maker(**{name: setting[name] for name in names})

    def numeric(self, settings: Sequence[Setting]) -> tuple[str, ...]:
        """Return the settings that may be numbers in one program: optimizer's or cost's own, and numbers everywhere."""
        named = [*self.taken("optimizer"), *self.taken("cost")]
        static = (*self.taken("net"), BATCH_SIZE)
        return tuple(
            name for name in dict.fromkeys(named) if name not in static and all(is_number(s[name]) for s in settings)
        )

    def _check_all_taken(self, names: Sequence[str]) -> None:
        taken = {name for _, found in self.takes for name in found or ()} | {BATCH_SIZE}
        for name in names:
            if name not in taken:
                asked = (("make_optimizer", self.optimizer), ("cost", self.cost), ("net", self.net))
                makers = dict(self.takes) | {"make_optimizer": dict(self.takes)["optimizer"]}
                took = [
                    f"{part} takes {_listed(_parameters(maker))}"
                    for part, maker in asked
                    if makers[part] is not None or isinstance(maker, type)  # a class that takes none of the settings
                ]
                raise JaxpropError(
                    f"sweep: nobody takes the setting {name!r}: {'; '.join(took) or 'all three are made already'}. "
                    f"Give a function with a parameter of that name, such as make_optimizer=lambda {name}: ..."
                )


def is_number(value: Any) -> bool:
    """Return whether a setting is a number; True and False are none.

    >>> is_number(0.1), is_number(True)
    (True, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # no function, or one of those in C that do not tell
        return {}


def _taken(function: Any, names: Sequence[str]) -> tuple[str, ...]:
    """The settings that a function has a parameter for; with **kwargs, all of them but batch_size."""
    known = _parameters(function)
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return tuple(name for name in names if name != BATCH_SIZE or name in known)
    return tuple(name for name in names if name in known and known[name].kind is not inspect.Parameter.POSITIONAL_ONLY)


def _check_needs(part: str, function: Any, names: Sequence[str]) -> None:
    given = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [n for n, p in _parameters(function).items() if p.kind in given and p.default is p.empty]
    missing = [name for name in needed if name not in names]
    if missing:
        raise JaxpropError(
            f"sweep: {part} needs {_listed(missing)}, and the settings are {_listed(names)}: name it in settings, or "
            "give a function that fills it in"
        )
