"""The module that computed each equation, from three kinds of evidence.

    names    Flax linen names its modules while they run, and users name what they like (`jax.named_scope`)
    uses     which module's parameters enter an equation
    calls    the stack of calls that made it, those around its program included

Names tell all of linen. For anything else, the stacks of the equations, in the order in which these ran, are a tree of
calls. A call of a module's method belongs to a module of that class; a call of a plain function belongs to the module
that all parameters used within it are of. What uses no parameter itself belongs to the innermost call around it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from jaxprop.xray.modules import Class, Module, Modules, common, upwards
from jaxprop.xray.places import Function, Stack

LINEN = "flax/linen/module.py"
_TURNED = re.compile(r"\b(?:vmap|jvp|transpose|pmap|jit|pjit|shard_map|remat|checkpoint)\(([^()]*)\)")


class Evidence(NamedTuple):
    """What tells whose an equation is.

    names: the scopes around it.    stack: of calls, the outermost first.    uses: of its inputs that are parameters,
    their modules' common path; None where no input is one.
    """

    names: Module
    stack: Stack
    uses: Module | None


@lru_cache(maxsize=10_000)
def names_in(name_stack: str) -> Module:
    """Take a stack of names apart, without what transformations wrote around them and Equinox's names of classes."""
    before = ""
    while before != name_stack:
        before, name_stack = name_stack, _TURNED.sub(r"\1", name_stack)
    return tuple(name for name in name_stack.split("/") if name and not name.startswith("eqx."))


def scopes(evidence: Sequence[Evidence], modules: Modules) -> list[Module]:
    """Give each equation the path of the module that computed it, names that users set included."""
    found: list[Module] = [()] * len(evidence)
    is_linen = _IsLinen()
    linen = [i for i, each in enumerate(evidence) if each.names and is_linen(each.stack)]
    for i, scope in zip(linen, _linen([evidence[i] for i in linen], modules), strict=True):
        found[i] = scope
    rest = set(range(len(evidence))).difference(linen)
    _Calls(evidence, modules, found).settle(sorted(rest))
    return found


class _IsLinen:
    """Says whether a module of linen's is at work in a stack of calls; each function is looked at once."""

    def __init__(self) -> None:
        self.found: dict[Function, bool] = {}

    def __call__(self, stack: Stack) -> bool:
        return any(self._is(frame.function) for frame in stack)

    def _is(self, function: Function) -> bool:
        if (found := self.found.get(function)) is None:
            found = self.found[function] = function.code.co_filename.replace("\\", "/").endswith(LINEN)
        return found


def _linen(evidence: Sequence[Evidence], modules: Modules) -> list[Module]:
    """Scopes by the names that linen gives.

    The outermost module has the name of its class, which the tree of parameters has not: there a root is in its place.
    """
    known, roots = modules.known, modules.roots
    names = [_of_modules(each.names) for each in evidence]
    if not known:
        return names
    outermost = {each[0] for each in names if any((*root, *each[1:2]) in known for root in roots)}
    tops = []
    for each, path in zip(evidence, names, strict=True):
        classes = {frame.function.code.co_qualname.rpartition(".")[0].rpartition(".")[2] for frame in each.stack}
        tops.append(next((i for i, name in enumerate(path) if name in classes or name in outermost), 0))
    fits = [
        [root for root in roots if any((*root, name) in known for name in path[top + 1 :])]
        for path, top in zip(names, tops, strict=True)
    ]
    used = {
        i: [root for root in fits[i] if each.uses[: len(root)] == root][-1:]
        for i, each in enumerate(evidence)
        if each.uses is not None
    }
    owners = {i: roots[0] for i, roots in used.items() if roots}
    owner = {i: root for root, some in _parted(range(len(names)), owners, [e.stack for e in evidence]) for i in some}
    scopes = []
    for i, (path, top) in enumerate(zip(names, tops, strict=True)):
        root = owner.get(i, ())
        if fits[i] and root not in fits[i]:
            root = fits[i][0]
        scopes.append((*path[:top], *root, *path[top + 1 :]))
    return scopes


def _of_modules(names: Module) -> Module:
    """Names of modules, without those of their methods: linen writes ".encode" behind, for any but `__call__`."""
    found: list[str] = []
    for name, dot, _ in (name.partition(".") for name in names):
        if not (dot and found[-1:] == [name]):
            found.append(name)
    return tuple(found)


class _Work(NamedTuple):
    """Equations, in their order, whose stacks are the same down to a depth, and what is known of them."""

    equations: list[int]
    depth: int
    module: Module  # of the call that they are in
    label: Module  # that module, with the names that were set around it
    named: int  # how many names of the equations are in the label
    methods: frozenset[Function]  # calls of that module on the stack


class _Calls:
    """Scopes by the tree of calls, from the outermost call down."""

    def __init__(self, evidence: Sequence[Evidence], modules: Modules, found: list[Module]) -> None:
        self.evidence, self.modules, self.found = evidence, modules, found
        self.stacks = [each.stack for each in evidence]
        at: dict[Stack, tuple[int, ...]] = {}
        self.at = [at.setdefault(stack, tuple(frame.at for frame in stack)) for stack in self.stacks]
        self.names: dict[Function, Class | None] = {}
        self.classes, self.callables = self._learned()

    def _learned(self) -> tuple[dict[Module, frozenset[Class]], frozenset[Module]]:
        """The classes of modules that are no objects, such as nnx's state: those whose calls led to their parameters.

        From the inside out a call goes with a module, and the call around it with the module around that one.
        """
        classes = dict(self.modules.classes)
        for each in self.evidence:
            if each.uses and not any(above in self.modules.callables for above in upwards(each.uses)):
                calls = (frame.function for frame in reversed(each.stack))
                kinds = (kind for call in calls if (kind := self._class(call)) and call.code.co_name == "__call__")
                numbered = [part.isdecimal() for part in (*each.uses, "")]  # a part before a number names a list
                around = [module for module in upwards(each.uses) if not numbered[len(module)]]
                for module, kind in zip(reversed(around), kinds, strict=False):
                    classes[module] = classes.get(module, frozenset()) | {kind}
        learned = {module for module in classes if module not in self.modules.classes}
        return classes, self.modules.callables | learned

    def settle(self, equations: list[int]) -> None:
        """Find the scopes of these equations."""
        todo = [_Work(equations, 0, (), (), 0, frozenset())]
        while todo:
            work = todo.pop()
            for run in self._runs(work.equations, work.depth):
                stack = self.evidence[run[0]].stack
                if len(stack) == work.depth:
                    for i in run:
                        self._place(i, work)
                    continue
                for module, some in self._calls(run, work):
                    inner = self._entered(work, module, some, stack[work.depth].function)
                    todo += [inner._replace(equations=part) for part in self._runs(some, work.depth, at=True)]

    def _runs(self, equations: list[int], depth: int, *, at: bool = False) -> Iterator[list[int]]:
        """Part equations where they come from another call than the one before (`at`: from another place in it)."""
        run: list[int] = []
        last: object = None
        for i in equations:
            stack = self.evidence[i].stack
            here = None if len(stack) == depth else stack[depth] if at else stack[depth].function
            if run and here != last:
                yield run
                run = []
            run.append(i)
            last = here
        if run:
            yield run

    def _place(self, i: int, work: _Work) -> None:
        """An equation of the call itself: of the module whose parameter it uses, if it uses one."""
        each = self.evidence[i]
        names = each.names[work.named :]
        if each.uses is None or work.module[: len(each.uses)] == each.uses:
            self.found[i] = (*work.label, *names)
        elif each.uses[: len(work.module)] == work.module:
            self.found[i] = (*work.label, *_joined(names, each.uses[len(work.module) :]))
        else:
            self.found[i] = each.uses

    def _entered(self, work: _Work, module: Module, equations: list[int], function: Function) -> _Work:
        """What is known inside of a call; names that all its equations have were set around it."""
        if module == work.module:
            return work._replace(depth=work.depth + 1, methods=work.methods | {function})
        around = common(self.evidence[i].names for i in equations)
        label = (*work.label, *_joined(around[work.named :], module[len(work.module) :]))
        return _Work([], work.depth + 1, module, label, max(work.named, len(around)), frozenset({function}))

    def _calls(self, run: list[int], work: _Work) -> list[tuple[Module, list[int]]]:
        """Part the equations of one function into calls for one module each."""
        uses = {i: used for i in run if (used := self.evidence[i].uses) and len(used) > len(work.module)
                and used[: len(work.module)] == work.module}  # fmt: skip
        if not uses or work.depth == 0:
            return [(work.module, run)]
        function = self.evidence[run[0]].stack[work.depth].function
        kind, least = self._class(function), len(work.module) + (function in work.methods)
        owners = {i: owner for i, used in uses.items() if (owner := self._owner(used, least, kind)) is not None}
        if owners:
            return _parted(run, owners, self.stacks)
        if any(above in self.callables for used in uses.values() for above in upwards(used)):
            return [(work.module, run)]  # a function that was handed a module whose methods do the work
        return self._repeated(run, uses, work.module)

    def _class(self, function: Function) -> Class | None:
        """The class that a function is a method of, by its name."""
        if function not in self.names:
            kind, _, _ = function.code.co_qualname.rpartition(".")
            file = re.split(r"[\\/]", function.code.co_filename)[-1]
            self.names[function] = (kind, file) if kind and not kind.endswith("<locals>") else None
        return self.names[function]

    def _owner(self, used: Module, least: int, kind: Class | None) -> Module | None:
        """The outermost module of a class, of those that a parameter lies in."""
        for n in range(least, len(used) + 1):
            classes = self.classes.get(used[:n], frozenset())
            if kind is not None and (kind in classes or (kind[0], "") in classes):
                return used[:n]
        return None

    def _repeated(self, run: list[int], uses: dict[int, Module], module: Module) -> list[tuple[Module, list[int]]]:
        """Part what a plain function did, or a loop in it, where it begins anew.

        What all turns do belongs to a turn's module; what only one does, such as a cost after the last, to `module`.
        """
        turns: list[list[int]] = []
        for k, i in enumerate(run):
            if k == 0 or (self.at[i] <= self.at[run[0]] and self.at[i] < self.at[run[k - 1]]):
                turns.append([])
            turns[-1].append(i)
        shared = set.intersection(*({self.at[i] for i in turn} for turn in turns))
        calls: list[tuple[Module, list[int]]] = []
        for turn in turns:
            inside = [uses[i] for i in turn if i in uses and self.at[i] in shared]
            owner = common(inside) if inside else module
            for i in turn:
                mine = owner if self.at[i] in shared else module
                if calls and calls[-1][0] == mine:
                    calls[-1][1].append(i)
                else:
                    calls.append((mine, [i]))
        return calls


def _parted(
    run: Sequence[int], owners: Mapping[int, Module], stacks: Sequence[Stack]
) -> list[tuple[Module, list[int]]]:
    """Part equations into those of one owner after another; some are known to be an owner's."""
    parts: list[tuple[Module, list[int]]] = []
    waiting: list[int] = []
    for i in run:
        waiting.append(i)
        owner = owners.get(i)
        if owner is None:
            continue
        if not parts:
            parts.append((owner, waiting))
        elif parts[-1][0] == owner:
            parts[-1][1].extend(waiting)
        else:
            first = _begin([stacks[parts[-1][1][-1]], *(stacks[k] for k in waiting)])
            parts[-1][1].extend(waiting[:first])
            parts.append((owner, waiting[first:]))
        waiting = []
    if parts:
        parts[-1][1].extend(waiting)
    return parts


def _begin(stacks: Sequence[Stack]) -> int:
    """Find where, behind the first of some stacks, another call begins: where the outermost change is.

    In a function that is called again and again many changes are as far out: of these, at the place that stands first
    in the function, and of several such places, which a loop comes to, at the last.
    """
    shared = [len(common(pair)) for pair in pairwise(stacks)]
    begins = [k for k, depth in enumerate(shared) if depth == min(shared)]
    at = [[frame.at for frame in stack] for stack in stacks[1:]]
    first = begins[0]
    for k in begins[1:]:
        both = min(len(at[k]), len(at[first]))
        if at[k][:both] <= at[first][:both]:
            first = k
    return first


def _joined(names: Module, path: Module) -> Module:
    """Put a path behind names; what both have, where they meet, stands once."""
    both = next((n for n in range(min(len(names), len(path)), 0, -1) if names[-n:] == path[:n]), 0)
    return (*names, *path[both:])
