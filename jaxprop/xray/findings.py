"""What `nonfinite` found: where, why, and what to write instead, to be read in ten seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from jaxprop.tables import STYLE, Table, Tabular
from jaxprop.xray.places import Line


@dataclass(frozen=True)
class Finding:
    """One place where a number that is not finite was made of finite ones.

    direction: "forward", of values, or "backward", of errors.
    primitive: what the equation computes; of a function with a rule of its own, that function's name too; "argument" or
        "constant" where the number was there from the start.
    line, source: the user's line and its text.    scope: the modules around it.
    steps: ("scan", 3, 10) for the step numbered 3, from 0, of 10, and ("shard_map", 1, 4) for a device;
        ("while", 7, None) for the seventh iteration.
    cause: in a few words.    why: a sentence, with the numbers that were measured.    instead: what to write.
    chain: from there to what the user sees.    name: of an argument.
    via: the user's lines that called that line, from the inside out, where it was called from several.

    >>> import jax.numpy as jnp, jaxprop as jp
    >>> found = jp.xray.report(lambda x: jnp.sum(jnp.log(x)))(jnp.array([1.0, 0.0])).nonfinite()[0]
    >>> found.direction, found.primitive, found.cause, found.why
    ('forward', 'log', 'log at 0', 'log(0) = −∞ at [1]')
    """

    direction: str
    primitive: str
    line: Line | None
    scope: str
    steps: tuple[tuple[str, int, int | None], ...]
    cause: str
    why: str
    instead: str
    chain: tuple[str, ...] = ()
    name: str = ""
    via: tuple[Line, ...] = ()

    @property
    def source(self) -> str:
        """The text of the user's line."""
        return "" if self.line is None else self.line.text

    @property
    def place(self) -> str:
        """Say where it is, in one line."""
        way = "the way back through " if self.direction == "backward" else ""
        where = f" at {self.line}" if self.line is not None else ""
        scope = f", in {self.scope}" if self.scope and not self.name else ""
        named = f" {self.name}" if self.name else ""
        return f"{way}{self.primitive}{named}{where}{scope}{''.join(f', {said}' for said in map(_step, self.steps))}"

    def __str__(self) -> str:
        lines = [self.place]
        lines += [f"    {self.source}"] if self.source else []
        lines += [f"  from:   {self.via[0]}"] if self.via else []
        lines += [f"  why:    {self.cause}: {self.why}"]
        lines += [f"  write:  {self.instead}"] if self.instead else []
        lines += [f"  then:   {' → '.join(self.chain)}"] if self.chain else []
        return "\n".join(lines)


def _step(step: tuple[str, int, int | None]) -> str:
    kind, number, length = step
    if kind == "while":
        return f"iteration {number} of the while" if number else "in a while"
    return f"{'device' if kind == 'shard_map' else 'step'} {number} of 0…{(length or 1) - 1}"


@dataclass(frozen=True)
class Findings:
    """What was found: iterable, and true where there is something.

    found: the findings, the first one first: forward in the order of the program, backward from the cost.
    outcome: what is not finite of what f and its gradient returned, in a sentence.
    note: what could not be looked at, if anything.

    >>> import jax.numpy as jnp, jaxprop as jp
    >>> report = jp.xray.report(lambda x: jnp.sum(jnp.sqrt(x)))
    >>> bool(report(jnp.ones(2)).nonfinite()), report(jnp.zeros(2)).nonfinite().outcome
    (False, 'The value 0 is finite, but the gradient of x is infinite (2 of 2 not finite).')
    """

    found: tuple[Finding, ...]
    outcome: str
    note: str = ""

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> Finding:
        return self.found[index]

    def __str__(self) -> str:
        numbered = len(self.found) > 1
        parts = [self.outcome]
        parts += [f"{i}. {finding}" if numbered else str(finding) for i, finding in enumerate(self.found, 1)]
        return "\n\n".join([*parts, *filter(None, [self.note])])

    def as_table(self) -> Table:
        """Return a row a finding: where, its line, the cause and what to write."""
        if not self.found:
            return Table(((self.outcome,),))
        head = ("", "made by", "at", "step", "cause", "write instead")
        rows = [
            (
                "back" if each.direction == "backward" else "forward", each.primitive,
                str(each.line or each.name), "; ".join(map(_step, each.steps)), each.cause, each.instead,
            )
            for each in self.found
        ]  # fmt: skip
        return Table((head, *rows), notes=tuple(filter(None, (self.outcome, self.note))))

    def table(self) -> "FindingsTable":
        """Return them as a table to print or to show in a notebook, a row a finding."""
        return FindingsTable(self.as_table())

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self.outcome)}</p>"]
        for each in self.found:
            source = f"<pre>{escape(each.source)}</pre>" if each.source else ""
            rows = [("why", f"<b>{escape(each.cause)}</b>: {escape(each.why)}")]
            rows += [("write", f"{escape(each.instead)}")] if each.instead else []
            rows += [("then", escape(" → ".join(each.chain)))] if each.chain else []
            body = "".join(f"<tr><th>{name}</th><td>{cell}</td></tr>" for name, cell in rows)
            parts.append(f"<p>{escape(each.place)}</p>{source}<table><tbody>{body}</tbody></table>")
        parts += [f"<p>{escape(self.note)}</p>"] if self.note else []
        return f'<div class="jaxprop-table">{STYLE}\n{"".join(parts)}\n</div>'


@dataclass(frozen=True)
class FindingsTable(Tabular):
    """The table of findings: it prints, and a notebook shows it."""

    kept: Table

    def as_table(self) -> Table:
        """Return the table that is printed."""
        return self.kept
