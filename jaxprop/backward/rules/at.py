"""Rules for some layers: chosen by path or by kind, the first key that fits a layer decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from jaxtyping import Array

from jaxprop.backward.rules.edits import as_rule
from jaxprop.backward.rules.rule import Backprop, Rule
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.network import Leaf

Key = str | type[Layer]


@dataclass(frozen=True, repr=False)
class At(Rule):
    """Let each layer have the rule of the first key that fits it, and `Backprop` where none does; made by `at`.

    >>> At((("0", Backprop()),))
    at({'0': Backprop()})
    """

    rules: tuple[tuple[Any, Any], ...]

    def choose(self, leaves: Sequence[Leaf]) -> list[Rule]:
        """Return every leaf's rule; raise JaxpropError for a key that decides nothing."""
        found: dict[str, Rule] = {}
        for key, rule in self.rules:
            fitting = [leaf for leaf in leaves if _fits(key, leaf)]
            free = [leaf for leaf in fitting if leaf.path not in found]
            if not free:
                paths = ", ".join(f"{leaf.path or 'the root'} {type(leaf.layer).__name__}" for leaf in leaves)
                taken = f"only layers that keys before it have ({fitting[0].path})" if fitting else "no layer"
                hint = "write it before them" if fitting else f"there are {paths}"
                raise JaxpropError(f"{self}: {_shown(key)} fits {taken}; {hint}")
            found |= dict(zip([leaf.path for leaf in free], rule.choose(free), strict=True))
        return [found.get(leaf.path, Backprop()) for leaf in leaves]

    def __repr__(self) -> str:
        return f"at({{{', '.join(f'{_shown(key)}: {rule}' for key, rule in self.rules)}}})"


def at(rules: Mapping[Key, Rule | Callable[[str, Array], Array]]) -> At:
    """Return a rule that chooses another for each layer: by path, or by kind.

    The first key that fits a layer decides, so what is special comes before what is general; a layer that no key fits
    goes back by `Backprop`. A key fits a layer if it fits it or a combinator around it: "1" and "1.*" are all that is
    inside of the second layer of a `Chain`, `jp.Residual` all that is inside of residuals.

    Args:
        rules: {key: rule}, a key being a dotted path with `*`, `?` and `[...]` as in file names (`*` goes through
            dots), or a class of layers; a rule one of `jp.rules`, or a function f(path, δ).

    Raises:
        JaxpropError: something is no key or no rule; in use, a key decides nothing, with the paths that there are.

    >>> from jaxprop import Conv, rules
    >>> rules.at({Conv: rules.Clip(1.0), "3*": rules.FeedbackAlignment()})
    at({Conv: Clip(1.0), '3*': FeedbackAlignment()})
    """
    if not isinstance(rules, Mapping) or not rules:
        raise JaxpropError(f'at: rules must be a dict {{"0.*" or jp.Conv: a rule}}, found {shortly(rules)}')
    for key in rules:
        if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, Layer)):
            raise JaxpropError(
                f'at: a key must be a path such as "0.*" or a class of layers such as jp.Conv, found {shortly(key)}'
            )
    return At(tuple((key, as_rule(rule, f"at: the rule of {_shown(key)}")) for key, rule in rules.items()))


def _fits(key: Key, leaf: Leaf) -> bool:
    """Tell whether a key fits a leaf, or something around it."""
    if isinstance(key, str):
        return any(fnmatchcase(path, key) for path in (leaf.path, *(path for path, _ in leaf.inside)))
    return any(isinstance(layer, key) for layer in (leaf.layer, *(around for _, around in leaf.inside)))


def _shown(key: Key) -> str:
    return repr(key) if isinstance(key, str) else key.__name__
