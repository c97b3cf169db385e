"""What layers and costs are: frozen descriptions, which print as the call that makes them."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jaxprop.layers.settings import KEPT_AS, settle

LONGEST = 4


def _settled_first(post_init: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(post_init)
    def checked(self: Any) -> None:
        settle(self)
        post_init(self)

    return checked


class Described:
    """A frozen dataclass of plain settings that prints as the call that makes it, defaults left out.

    Settings are checked by their types before a class's own `__post_init__` looks at them. `instead` says by setting
    what to write where other libraries take something else in that place.

    Settings without a default come first, then by name those that make a difference: `eval(repr(layer), vars(jaxprop))`
    is the layer again, unless a tuple of many numbers was shortened.

    >>> from jaxprop.layers import Conv, LayerNorm, Linear, Standardize
    >>> Linear(3), Linear(3, bias=False, init="he_normal"), LayerNorm(), Conv(8, (3, 3), strides=2)
    (Linear(3), Linear(3, bias=False, init='he_normal'), LayerNorm(), Conv(8, (3, 3), strides=(2, 2)))
    >>> Standardize(mean=(0.5,) * 64, std=2.0)
    Standardize(<64 numbers>, 2.0)
    """

    instead: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__post_init__" in vars(cls):
            setattr(cls, "__post_init__", _settled_first(vars(cls)["__post_init__"]))  # noqa: B010
        cls.__repr__ = cls.__repr__  # what a class has of its own, `dataclass` does not replace

    def __post_init__(self) -> None:
        settle(self)

    def __repr__(self) -> str:
        required: list[Any] = []
        changed: dict[str, Any] = {}
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, KEPT_AS.get(name, name), parameter.default)
            if value is parameter.empty:  # a constructor of one's own keeps it by another name
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                required += value
            elif parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
                required.append(value)
            elif value is not parameter.default:
                changed[name] = value
        named = [f"{name}={_short(changed[name])}" for name in changed if self._needs(name, required, changed)]
        shown = [*map(_short, required), *named]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _needs(self, name: str, required: list[Any], changed: dict[str, Any]) -> bool:
        """Tell whether it would be another layer without this setting: strides=1 is kept as (1, 1) and is no change."""
        others = {other: value for other, value in changed.items() if other != name}
        try:
            return type(self)(*required, **others) != self
        except Exception:  # it cannot be left out: to print a layer must not fail
            return True

    def _keep(self, **settings: Any) -> None:
        """Keep the arguments of a hand-written constructor, and check them."""
        for name, value in settings.items():
            object.__setattr__(self, KEPT_AS.get(name, name), value)
        self.__post_init__()


def _short(value: Any) -> str:
    """The text of a setting; of many numbers, how many."""
    many = isinstance(value, tuple) and len(value) > LONGEST and all(isinstance(v, float) for v in value)
    return f"<{len(value)} numbers>" if many else repr(value)
