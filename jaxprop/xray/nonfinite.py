"""`nonfinite`: where the first NaN or infinity was made, and why.

1  what the user sees   is the value finite, are the gradients? If all are, nothing is said, whatever is inside
2  the marks            back from there, through what is not finite, to the equations that made it (`origins.py`)
3  a second look        only these equations keep their arrays, and the parts of the errors (`looking.py`, `kept.py`)
4  the cause            read off the numbers at the first bad element (`causes.py` and the two beside it)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jaxprop.errors import JaxpropError
from jaxprop.xray.causes import NANS, Cause
from jaxprop.xray.causes_of_errors import errors_cause, sum_cause
from jaxprop.xray.causes_of_values import values_cause
from jaxprop.xray.chains import chain_of_errors, chain_of_values, with_arrivals
from jaxprop.xray.findings import Finding, Findings
from jaxprop.xray.flow import flow_of, flow_of_sites
from jaxprop.xray.kept import Kept
from jaxprop.xray.looking import look, measured_lightly
from jaxprop.xray.marks import INF, NAN, Marks, Steps, explained_by, is_layout, marks_of_array, when
from jaxprop.xray.origins import Origin, before_outputs, of_errors, of_values
from jaxprop.xray.outcomes import Outcome, outcome_of
from jaxprop.xray.places import Line
from jaxprop.xray.planning import Path
from jaxprop.xray.program import Traced, trace
from jaxprop.xray.sites import Site, sites
from jaxprop.xray.versions import undisturbed

if TYPE_CHECKING:
    from jaxprop.xray.report import Report

ONLY_A_REPORT = (
    "this report was not made in this process: the places are known, the causes are not. Make it again with "
    "jp.xray.report(f)(*args) and ask that one"
)

NOT_SEEN_AGAIN = Cause(
    "not known",
    "the first error that is not finite came from here, and in a second run, which keeps the numbers, it was finite. "
    "The two are different programs to XLA: where numbers cancel, rounding decides whether 0 is left",
    "jnp.sqrt(jnp.maximum(x, 0.0) + eps) under a root, and the mean of (x - mean)**2 for a variance",
)
AGAIN = "it gave {} in the first run, and did not in the second, which XLA compiled in another way"
AGAIN_INSTEAD = "jnp.where(mask, x, 0.0) instead of mask * x, which XLA may compile as one or as the other"


def nonfinite(report: "Report") -> Findings:
    """Find where the first NaN or infinity was made, and why, in what a report measured.

    Nothing is found where the value and the gradients are finite: masks of −∞ and NaN that a `where` drops are healthy.
    Values come first: errors are looked into where all that f returns is finite. The program runs once more, and keeps
    the arrays of a few equations.

    Args:
        report: of `jp.xray.report(f)(*args)`. One read from JSON tells the place only.

    Raises:
        JaxpropError: it is no report.

    >>> import jax.numpy as jnp, jaxprop as jp
    >>> def cost(x):
    ...     return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))
    >>> found = jp.xray.nonfinite(jp.xray.report(cost)(jnp.array([4.0, 0.0])))
    >>> found[0].primitive, found[0].cause
    ('sqrt', '0 · ∞ under a where')
    >>> len(jp.xray.nonfinite(jp.xray.report(cost)(jnp.array([4.0, 1.0]))))
    0
    """
    if not hasattr(report, "call"):
        raise JaxpropError(
            f"nonfinite: expected what jp.xray.report(f)(*args) returns, found {type(report).__name__}; of a reading "
            "make jp.xray.Report(reading)"
        )
    outcome = outcome_of(report)
    if not outcome:
        return Findings((), outcome.said)
    with undisturbed():
        return _Search(report, outcome).findings()


@dataclass(frozen=True)
class _Made:
    """Where it was made after all, with its cause."""

    path: Path
    steps: Steps
    cause: Cause
    turn: int = 0
    position: int = 0


class _Search:
    def __init__(self, report: "Report", outcome: Outcome) -> None:
        self.outcome, self.call = outcome, report.call
        self.traced: Traced | None = None
        self.sites = {site.path: site for site in report.sites}
        if self.call is None:
            self.flow = flow_of_sites(report.sites)
        else:
            call = self.call
            self.traced = trace(call.f, call.argnums, call.args, call.kwargs, has_aux=call.has_aux)
            self.flow = flow_of(self.traced.jaxpr, self.traced.consts)
            every = sites(self.traced.jaxpr, self.traced.names, self.traced.modules)
            self.sites = {site.path: site for site in every} | self.sites  # the report may be one of a part
        values, errors = report.values, report.errors
        if report.light and self.traced is not None:  # which left out what does not pass from line to line
            places = frozenset(path for path, node in self.flow.nodes.items() if not is_layout(node))
            seen, landed = measured_lightly(self.traced, places, not outcome.is_forward)
            values, errors = {**values, **seen}, {**errors, **landed}
        self.marks = Marks(self.flow, values, errors, is_sparse=report.light and self.traced is None)
        self.kept = Kept(self.flow, self.sites, {})

    def findings(self) -> Findings:
        if self.outcome.is_forward:
            outputs = self._outputs()
            origins = of_values(self.marks, outputs) or before_outputs(self.marks, outputs)
        else:
            outputs, origins = [], of_errors(self.marks, self.outcome.gradients)
        if self.traced is not None:
            self.kept = Kept(self.flow, self.sites, look(self.traced, self._wanted(origins)))
        made = self._first(origins, self.outcome.is_forward)
        if not made and not self.outcome.is_forward:
            made = self._by_marks(next(iter(origins[0].infinite), origins[0]), NOT_SEEN_AGAIN) if origins else []
        if outputs and not made and self._is_put_there(outputs):
            return Findings((), "All is finite, but for infinities that were put there.")
        made = made if self.traced is not None else made[:1]  # what a loop carries on is not known
        found = [self._finding(each, outputs) for each in made] or [self._given(outputs)] * bool(outputs)
        return Findings(tuple(found), self.outcome.said, "" if self.traced else ONLY_A_REPORT)

    def _outputs(self) -> list[int]:
        """Give the numbers of the outputs that are not finite."""
        if self.traced is None:
            return list(self.flow.outputs)
        return [number for number, mark in zip(self.flow.outputs, self.outcome.values, strict=True) if mark]

    def _is_put_there(self, outputs: list[int]) -> bool:
        """Infinities that stand in the program and are returned as they are."""
        whole = self.call is not None and self.call.argnums is None
        return whole and not any(self.marks.value(number, {}) & NAN for number in outputs)

    def _wanted(self, origins: Iterable[Origin]) -> dict[Path, set[int]]:
        wanted: dict[Path, set[int]] = {}
        for origin in origins:
            for path, place, _ in origin.uses:
                wanted.setdefault(path, set()).add(place)
            for path in origin.layouts:
                wanted.setdefault(path, set()).update([0] if origin.uses else [])
            if not origin.uses and origin.path[0] != -1:
                wanted.setdefault(origin.path, set())
            for path, places in self._wanted((*origin.infinite, *origin.dropped)).items():
                wanted.setdefault(path, set()).update(places)
        return wanted

    def _first(self, origins: Iterable[Origin], forward: bool) -> list[_Made]:
        """Say of each origin where the number was made: where an infinity enters, that one may be the first."""
        found: dict[Path, _Made] = {}
        for origin in origins:
            made = self._forward(origin) if forward else self._backward(origin)
            if made is None:
                continue
            if origin.infinite and ("∞" in made.cause.name or "infinity" in made.cause.name or not forward):
                first = self._forward(origin.infinite[0]) if forward else self._backward(origin.infinite[0])
                if first is not None and first.path[0] == -1:
                    said = f"; the infinity was given, in {self._name(first.path)}"
                    made = replace(made, cause=replace(made.cause, why=made.cause.why + said))
                elif first is not None:
                    made = first
            if origin.dropped and made.cause.name in NANS:
                made = replace(made, cause=self._with_source(made, origin.dropped))
            found.setdefault(made.path, made)
        return sorted(found.values(), key=lambda made: made.turn)  # 0 but in a `while`

    def _with_source(self, made: _Made, dropped: tuple[Origin, ...]) -> Cause:
        """Add to a cause where the NaN was made that the error met; and what to write there."""
        source = next(iter(self._first(dropped, True)), None)
        if source is None or source.path == made.path:
            return made.cause
        if source.path[0] == -1:
            return replace(made.cause, why=f"{made.cause.why}; that NaN was given, in {self._name(source.path)}")
        site, cause = self.sites[source.path], source.cause
        at = f" at {site.line}" if site.line is not None else ""
        why = f"{made.cause.why}; that NaN was made by {site.primitive}{at}: {cause.why}"
        return replace(made.cause, why=why, instead=cause.instead or made.cause.instead)

    def _name(self, path: Path) -> str:
        return self.sites[path].name

    def _forward(self, origin: Origin) -> _Made | None:
        kind = "NaN" if origin.bit & NAN else "infinite"
        if origin.path[0] == -1:
            return _Made(
                origin.path, {}, Cause(f"already {kind}", f"{self._name(origin.path)} was {kind} when f was called")
            )
        order = sorted((*origin.layouts, origin.path), key=lambda path: when(self.flow.nodes[path], origin.steps))
        for path in order:
            for steps in self.kept.bad_steps(path, origin):
                local = self.kept.local(path, steps)
                entering = [marks_of_array(a) for a in local.inputs if a is not None]
                if any(mark & explained_by(origin.bit) for mark in entering):
                    continue
                cause = self.kept.inside(path, local) or values_cause(local, origin.bit == NAN)
                return _Made(path, steps, cause, self.kept.turn(path, steps))
        if origin.path in self.kept.looks and next(self.kept.bad_steps(origin.path, origin), None) is not None:
            return None  # what enters is not finite either: in a `while`, it was made in an earlier turn
        return _Made(origin.path, origin.steps, Cause("not known", AGAIN.format(kind), AGAIN_INSTEAD))

    def _backward(self, origin: Origin) -> _Made | None:
        if self.traced is None:
            return next(iter(self._by_marks(origin, Cause("not known", "it returns the first bad error"))), None)
        uses = {(path, place): steps for path, place, steps in origin.uses} | {
            (path, 0): origin.steps for path in origin.layouts
        }
        bad = explained_by(origin.bit)
        for path, place in sorted(uses, key=lambda u: when(self.flow.nodes[u[0]], uses[u]), reverse=True):
            node, kept = self.flow.nodes[path], self.kept.looks.get(path)
            if kept is None or place not in kept.parts:
                continue
            for steps in self.kept.all_steps(path, uses[path, place], backward=True):
                if not marks_of_array(self.kept.at(kept.parts[place], node, steps)) & origin.bit:
                    continue
                local = self.kept.local(path, steps, place)
                if any(marks_of_array(error) & bad for error in local.errors if error is not None):
                    continue
                return _Made(path, steps, errors_cause(local), self.kept.turn(path, steps), place)
        return self._fanned_out(origin, uses)

    def _by_marks(self, origin: Origin, cause: Cause) -> list[_Made]:
        """Name the equation that sent back the first bad error, of which the numbers are not there."""
        paths = sorted((use[0] for use in origin.uses), key=lambda path: when(self.flow.nodes[path], origin.steps))
        return [_Made(path, origin.steps, cause) for path in paths[-1:]]

    def _fanned_out(self, origin: Origin, uses: Mapping[tuple[Path, int], Steps]) -> _Made | None:
        """Where several errors meet, each of them well, their sum may not be."""
        node = self.flow.nodes[origin.path]
        parts: list[np.ndarray] = []
        same = {reached for number in node.outputs for reached in with_arrivals(self.flow, number)}
        for path, place in uses:
            if self.flow.nodes[path].inputs[place] in same and place in (kept := self.kept.looks[path]).parts:
                every = self.kept.all_steps(path, uses[path, place])
                parts += [self.kept.at(kept.parts[place], self.flow.nodes[path], steps) for steps in every]
        cause = sum_cause(parts, self.sites[origin.path].shapes[0].partition("[")[0])
        return None if cause is None else _Made(origin.path, origin.steps, cause)

    def _finding(self, made: _Made, outputs: list[int]) -> Finding:
        site, node = self.sites[made.path], self.flow.nodes[made.path]
        steps = []
        for loop in node.loops:
            if loop.kind == "while":
                steps.append(("while", made.turn, None))
            elif loop.path in made.steps:
                steps.append((loop.kind, made.steps[loop.path], loop.length))
        chain = (
            chain_of_values(self.marks, self.sites, made.path, outputs)
            if outputs
            else chain_of_errors(self.marks, self.sites, made.path, made.position, self.outcome.gradients)
        )
        return Finding(
            "forward" if outputs else "backward", site.primitive, site.line, site.scope, tuple(steps),
            made.cause.name, made.cause.why, made.cause.instead, (*chain, self.outcome.end), site.name, self._via(site),
        )  # fmt: skip

    def _via(self, site: Site) -> tuple[Line, ...]:
        """The lines that called the one of an equation, where others called it too."""
        alike = (other for other in self.sites.values() if other.line == site.line)
        return site.via if site.line is not None and any(other.via != site.via for other in alike) else ()

    def _given(self, outputs: list[int]) -> Finding:
        """A number that stood in the program from the start."""
        mark = NAN if any(self.marks.value(n, {}) & NAN for n in outputs) else INF
        users = [
            path for number, value in self.flow.known.items() if marks_of_array(value) & mark
            for path, _ in self.flow.used.get(number, ())
        ]  # fmt: skip
        site = self.sites[min(users, key=lambda p: when(self.flow.nodes[p], {}))] if users else None
        kind, article = ("NaN", "a") if mark == NAN else ("infinity", "an")
        cause = f"constant {kind}", f"{article} {kind} that stands in the program was chosen, or entered the result"
        return Finding(
            "forward", "constant", site and site.line, site.scope if site else "", (), *cause,
            "see which element chose it: a mask that drops what is needed?", (self.outcome.end,),
        )  # fmt: skip
