"""The module that computed an equation, by the parameters that it uses and the calls that made it.

The stacks of the equations, in the order in which these ran, are a tree of calls. A call of a module's method belongs
to a module of that class; a call of a plain function belongs to the module that all parameters used within it are of.
What uses no parameter itself belongs to the innermost call around it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxprop.xray.evidence import Evidence, parted
from jaxprop.xray.modules import Class, Module, Modules, common, upwards
from jaxprop.xray.places import Function, Stack


class _Work(NamedTuple):
    """Equations, in their order, whose stacks are the same down to a depth, and what is known of them."""

    equations: list[int]
    depth: int
    module: Module  # of the call that they are in
    label: Module  # that module, with the names that were set around it
    named: int  # how many names of the equations are in the label
    methods: frozenset[Function]  # calls of that module on the stack


class Calls:
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
            return parted(run, owners, self.stacks)
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
        root = max(len(root) for root in self.modules.roots if used[: len(root)] == root)
        for n in range(max(least, root), len(used) + 1):
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


def _joined(names: Module, path: Module) -> Module:
    """Put a path behind names; what both have, where they meet, stands once."""
    both = next((n for n in range(min(len(names), len(path)), 0, -1) if names[-n:] == path[:n]), 0)
    return (*names, *path[both:])
