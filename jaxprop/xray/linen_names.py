"""The module that computed an equation, by the names that Flax linen gives while its modules run.

The outermost module has the name of its class there, "Net/Block_1/Dense_0", which the tree of parameters has not. So a
root of that tree stands in its place: none, or "generator" where it is applied with the parameters of that name.
"""

from collections.abc import Collection, Container, Sequence

from jaxprop.xray.evidence import Evidence, parted
from jaxprop.xray.modules import Module, Modules
from jaxprop.xray.places import Function, Stack

LINEN = "flax/linen/module.py"


class Linen:
    """Looks for modules of linen's at work; at each function once."""

    def __init__(self) -> None:
        self.found: dict[Function, bool] = {}

    def is_in(self, stack: Stack) -> bool:
        """Say whether one is in a stack of calls."""
        return any(self._is(frame.function) for frame in stack)

    def _is(self, function: Function) -> bool:
        if (found := self.found.get(function)) is None:
            found = self.found[function] = function.code.co_filename.replace("\\", "/").endswith(LINEN)
        return found


def linen_scopes(evidence: Sequence[Evidence], modules: Modules) -> list[Module]:
    """Give equations of linen's the paths of their modules; where nothing is known of parameters, the names alone."""
    known = modules.known
    names = [_of_modules(each.names) for each in evidence]
    if not known:
        return names
    outermost = {each[0] for each in names if any((*root, *each[1:2]) in known for root in modules.roots)}
    tops = [_top(each, path, outermost) for each, path in zip(evidence, names, strict=True)]
    fits = [_fitting(path[top + 1 :], modules, known) for path, top in zip(names, tops, strict=True)]
    owners: dict[int, Module] = {}
    for i, each in enumerate(evidence):
        if each.uses is not None and (used := [root for root in fits[i] if each.uses[: len(root)] == root]):
            owners[i] = used[-1]
    parts = parted(range(len(names)), owners, [each.stack for each in evidence])
    found: dict[int, Module] = {i: root for root, part in parts for i in part}
    roots = [found.get(i, ()) for i in range(len(names))]
    roots = [root if root in fit or not fit else fit[0] for root, fit in zip(roots, fits, strict=True)]
    return [
        (*path[:top], *_below(root, path[top + 1 :], known)) for path, top, root in zip(names, tops, roots, strict=True)
    ]


def _fitting(names: Module, modules: Modules, known: Collection[Module]) -> list[Module]:
    """The roots at which some names can begin: where trees of parameters do, or else any module with the first of them,
    such as "generator" where parameters of several models are in one dict."""
    fits = [root for root in modules.roots if any((*root, name) in known for name in names)]
    if fits or not names:
        return fits
    return sorted((each[:-1] for each in known if each[-1:] == names[:1]), key=lambda root: (len(root), root))


def _below(root: Module, names: Module, known: Container[Module]) -> Module:
    """Put names behind a root. Around a lifted scan linen says a name that it says inside once more."""
    for name in names:
        if root[-1:] != (name,) or (*root, name) in known:
            root = (*root, name)
    return root


def _top(each: Evidence, names: Module, outermost: set[str]) -> int:
    """Which name is that of the outermost module: one of a class at work. Names that users set may be before it."""
    classes = {frame.function.code.co_qualname.rpartition(".")[0].rpartition(".")[2] for frame in each.stack}
    return next((i for i, name in enumerate(names) if name in classes or name in outermost), 0)


def _of_modules(names: Module) -> Module:
    """Names of modules, without those of their methods: linen writes ".encode" behind, for any but `__call__`."""
    found: list[str] = []
    for name, dot, _ in (name.partition(".") for name in names):
        if not (dot and found[-1:] == [name]):
            found.append(name)
    return tuple(found)
