"""The modules among the arguments of a function, by the paths of their parameters: "layers/1", "Block_1/Dense_0".

Any tree of parameters has such paths: dicts of arrays, the variables of Flax linen, modules of Flax nnx and of Equinox.
Of modules that are objects the classes are known too, which tells whose method computes what (`scopes.py`).
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePath
from typing import Any, TypeVar

Module = tuple[str, ...]  # its path: ("layers", "1"); () is all of them
Class = tuple[str, str]  # the qualified name of a class, and the name of the file that it stands in, "" if unknown
KeyPath = tuple[Any, ...]  # as JAX gives it, in (args, kwargs)
Part = TypeVar("Part")
FIRST = 2  # where a key path enters its argument


@dataclass(frozen=True)
class Modules:
    """Hold which module each input of a program is a parameter of.

    of: of each input, its module; None for data.
    classes: of each module that is an object, its class and those that it derives from.
    callables: those of them that can be called, as layers are.
    roots: where trees of parameters begin: () and others, such as ("generator",) of two models.
    """

    of: tuple[Module | None, ...] = ()
    classes: Mapping[Module, frozenset[Class]] = field(default_factory=dict)
    callables: frozenset[Module] = frozenset()
    roots: tuple[Module, ...] = ((),)

    @property
    def known(self) -> frozenset[Module]:
        """Give all modules, those around others included."""
        return frozenset(above for module in self.of if module is not None for above in upwards(module))


def find_modules(
    paths: Sequence[KeyPath], arguments: tuple[Any, Any], names: Sequence[str], primary: Sequence[bool]
) -> Modules:
    """Find the modules among the arguments of a function.

    The arguments share one tree. One whose parameters would stand where another's stand keeps its name in front, and so
    do several that are differentiated. What is not differentiated is a module's only in an object that can be called,
    which keeps its name too, where others of that module are (the statistics of its batches, say), or where it would
    stand for another's (of a second network).

    Args:
        paths: of the inputs.
        arguments: (args, kwargs).
        names: of the arguments that the inputs lie in, such as "params".
        primary: which inputs are differentiated; where none is, those of the first tree count.
    """
    collections = _collections(paths)
    trees = [_Leaf(path, collections) for path in paths]
    fronts = _fronts(paths, arguments, names, primary, trees)
    of = {i: (*front, *trees[i].module) for i, front in fronts.items()}
    classes: dict[Module, frozenset[Class]] = {}
    callables: set[Module] = set()
    roots = {(), *fronts.values()}
    for i, front in fronts.items():
        for n, above in trees[i].above():
            owner, value = (*front, *above), _at(arguments, paths[i][:n])
            if classes_of := _classes(value):
                classes[owner] = classes_of
                callables |= {owner} if callable(value) else set()
            if paths[i][:n] in collections:
                roots.add(owner)
    ordered = tuple(sorted(roots, key=lambda root: (len(root), root)))
    return Modules(tuple(of.get(i) for i in range(len(paths))), classes, frozenset(callables), ordered)


def _fronts(
    paths: Sequence[KeyPath], arguments: Any, names: Sequence[str], primary: Sequence[bool], trees: "Sequence[_Leaf]"
) -> dict[int, Module]:
    """Of each input that is a module's parameter, what stands before its path: nothing, or its argument's name."""
    inputs: dict[KeyPath, list[int]] = {}
    for i, path in enumerate(paths):
        if len(path) > FIRST:
            inputs.setdefault(path[:FIRST], []).append(i)
    first = [key for key, inside in inputs.items() if any(primary[i] for i in inside)]
    first = first or list(inputs)[:1]
    kinds = {type(_at(arguments, key)) for key in first}  # a model may come in two parts, as Equinox partitions it
    fronts: dict[int, Module] = {}
    taken: set[Module] = set()
    for key in [*first, *(key for key in inputs if key not in first)]:
        inside, front, value = inputs[key], (), _at(arguments, key)
        several = len(first) > 1 if key in first else callable(value) and type(value) not in kinds
        if several or any(trees[i].whole in taken for i in inside):
            front = (names[inside[0]],)
        elif key not in first and not callable(value):
            known = {above for i, front in fronts.items() for above in upwards((*front, *trees[i].module))} - {()}
            inside = [i for i in inside if trees[i].module in known]
        fronts |= dict.fromkeys(inside, front)
        taken |= {(*front, *trees[i].whole) for i in inside}
    return fronts


def common(paths: Iterable[tuple[Part, ...]]) -> tuple[Part, ...]:
    """Give the beginning that some paths have in common."""
    return tuple(keys[0] for keys in takewhile(lambda keys: len(set(keys)) == 1, zip(*paths, strict=False)))


def upwards(module: Module) -> Iterable[Module]:
    """List (), the modules around a module, and it itself: from the outside in."""
    return (module[:n] for n in range(len(module) + 1))


def _key(entry: Any) -> Any:
    return next((getattr(entry, name) for name in ("name", "key", "idx") if hasattr(entry, name)), entry)


def _collections(paths: Sequence[KeyPath]) -> frozenset[KeyPath]:
    """Where linen's variables are: dicts with "params" among their keys, which name collections and no modules."""
    return frozenset(
        path[:n]
        for path in paths
        for n in range(FIRST, len(path) - 1)
        if hasattr(path[n], "key") and path[n].key == "params"
    )


class _Leaf:
    """Where a parameter lies inside its argument, without linen's collections and the `.value` of nnx's variables."""

    def __init__(self, path: KeyPath, collections: frozenset[KeyPath]) -> None:
        boxed = len(path) > FIRST + 1 and getattr(path[-1], "name", None) == "value"
        self.path, self.collections = path[:-1] if boxed else path, collections
        self.module, self.whole = self._parts(len(self.path) - 1), self._parts(len(self.path))

    def _parts(self, end: int) -> Module:
        keys = [_key(self.path[n]) for n in range(FIRST, end) if self.path[:n] not in self.collections]
        return tuple(part for key in keys for part in str(key).split("/"))

    def above(self) -> Iterable[tuple[int, Module]]:
        """The lengths of its path at which something lies around it, and the module there."""
        return ((n, self._parts(n)) for n in range(FIRST, len(self.path)))


def _at(tree: Any, path: KeyPath) -> Any:
    """What stands at a path; None where JAX has made up the path."""
    for entry in path:
        try:
            tree = getattr(tree, entry.name) if hasattr(entry, "name") else tree[_key(entry)]
        except (AttributeError, KeyError, IndexError, TypeError):
            return None
    return tree


def _classes(value: Any) -> frozenset[Class]:
    """The class of an object that may be a module, and those that it derives from."""
    if value is None or isinstance(value, (Mapping, list, tuple)):
        return frozenset()
    return frozenset((kind.__qualname__, _file(kind)) for kind in type(value).__mro__ if kind is not object)


def _file(kind: type) -> str:
    return PurePath(getattr(sys.modules.get(kind.__module__), "__file__", None) or "").name
