"""`report`: one run of a function with its gradient, and what it shows of every place inside.

The measuring is `program`'s, compiled once for each shape. What it leaves comes to the host in one transfer; from there
on everything is NumPy.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.core import Tracer
from jax.stages import Compiled, Traced

from jaxprop.arrays.one_run import compiled_for_one_run
from jaxprop.errors import JaxpropError
from jaxprop.tables import shown
from jaxprop.xray import asked, groups, picture, said, tabulated, written
from jaxprop.xray.arguments import ArgNums, Arguments, arguments
from jaxprop.xray.findings import Findings
from jaxprop.xray.nonfinite import nonfinite
from jaxprop.xray.program import Reading, program
from jaxprop.xray.rows import Row, rows_of
from jaxprop.xray.tabulated import Printed
from jaxprop.xray.versions import undisturbed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Call:
    """Hold what a report was asked of, so that it can be run once more: f, how, and its arguments."""

    f: Callable[..., Any]
    argnums: ArgNums
    has_aux: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def report(
    f: Callable[..., Any], argnums: ArgNums = 0, *, has_aux: bool = False, light: bool = False
) -> "Callable[..., Report]":
    """Return a function that runs f with its gradient and reports on every value and every error inside: a `Report`.

    It is called as `jax.grad(f, argnums)(*args)` is. f itself is not changed: it may be of Flax, Equinox or plain JAX.
    It is compiled with its probes at the first call for each shape of the arrays among the arguments; whatever else is
    among them (functions, strings, numbers that are not differentiated) is part of the program. So is what f closes
    over, as with `jax.jit`: after a change of it, call `report(f)` anew.

    Args:
        f: a function that returns one real number C, or with has_aux a pair of it and anything.
        argnums: the arguments to differentiate, as for `jax.grad`. None looks at the values alone, and f may return
            anything then.
        has_aux: whether f returns a pair.
        light: measure only what passes from one line or module to another, and of it the root of the mean square and
            the largest absolute value.

    Raises:
        JaxpropError: f is no function, an argument to differentiate holds no real numbers, argnums names none, or it is
            called inside of another program (under `jax.jit`, say): use `program` there.
        ShapeError: f returns no single number, or no pair with has_aux.

    >>> import jax.numpy as jnp
    >>> def cost(w, x):
    ...     y = jnp.tanh(x @ w)
    ...     return jnp.sum(y**2)
    >>> found = report(cost)(jnp.ones((2, 3)), jnp.array([[0.5, 0.0]]))
    >>> [row.name for row in found.rows]
    ['w', 'x', 'dot_general', 'tanh', 'integer_pow', 'reduce_sum']
    >>> row = found.rows[3]  # the value y = tanh(0.5), and the error ∂C/∂y = 2 y
    >>> print(f"{row.value.rms:.4f} {row.error.rms:.4f}")
    0.4621 0.9242
    """
    measured = program(f, argnums, has_aux=has_aux, light=light)

    @partial(jax.jit, static_argnums=0)
    def filled(rest: Arguments, arrays: list[Any]) -> Reading:
        args, kwargs = rest.filled(arrays)
        return measured(*args, **kwargs)

    compiled: dict[Any, Compiled] = {}

    def run(*args: Any, **kwargs: Any) -> Report:
        rest, arrays = arguments(argnums, args, kwargs)
        if any(isinstance(array, Tracer) for array in arrays):
            raise JaxpropError(
                "xray.report reads its numbers on the host, and was called inside of another program, such as a jitted "
                "function: call jp.xray.program(f) there, return its reading, and make jp.xray.Report(reading) outside"
            )
        called = (rest, *((jax.typeof(array), getattr(array, "sharding", None)) for array in arrays))
        with undisturbed():
            if called not in compiled:
                compiled[called] = _compiled(filled.trace(rest, arrays))
            reading = compiled[called](arrays)
        return Report(reading, call=Call(f, argnums, has_aux, args, kwargs))

    return run


def _compiled(traced: Traced) -> Compiled:
    """Compile a program that measures; on a CPU without optimisation, where that would take longer than the run.

    It would be 13 ms of 50 for each place, and the run of a program that is not optimised takes 0.1 µs more for each
    number there.
    """
    places = [site for site in traced.out_info.sites if site.elements]
    few = sum(site.elements for site in places) < 100_000 * len(places)
    lowered = traced.lower()
    return compiled_for_one_run(lowered, many_kernels=True) if few else lowered.compile()


class Report:
    """What a run of `program` measured, place by place; `report` makes it, or `Report(reading)` outside of a program.

    rows: every output of every equation, in the order in which they run, the arguments of f first: `.value` and
        `.error`, each with `rms`, `largest`, `zero`, `nan` and `inf` (shares), and with `steps` of a scan.
    value, aux, grads: what f and its gradient returned, as `jax.value_and_grad` gives them; after `from_json` only a
        value that is one number is there.
    sites: all equations, those that were not measured too.
    light: whether it was measured lightly, see `report`.
    made_with: versions of jaxprop and JAX, platform and device, as `json` keeps them.
    call: f and its arguments, where `report` made it.

    The error of a value is the cotangent ∂C/∂(that value); that of an argument is its gradient.

    >>> import jax, jax.numpy as jnp
    >>> reading = jax.jit(program(lambda w: jnp.sum(jnp.sqrt(w))))(jnp.array([4.0, 0.0]))
    >>> found = Report(reading)
    >>> [(row.name, row.error.trouble) for row in found.rows]
    [('w', 'inf'), ('sqrt', ''), ('reduce_sum', '')]
    """

    def __init__(
        self, reading: Reading, *, call: Call | None = None, made_with: dict[str, str] | None = None, at: str = ""
    ) -> None:
        if not isinstance(reading, Reading):
            raise JaxpropError(
                f"Report: expected what jp.xray.program(f)(*args) returns, found {type(reading).__name__}"
            )
        self.call, self.scope = call, at
        self.made_with = made_with or written.made_with(reading)
        self.value, self.aux, self.grads = reading.value, reading.aux, reading.grads
        self.sites, self.light = reading.sites, reading.light
        self.values, self.errors = jax.device_get((reading.values, reading.errors))

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """List what was measured."""
        return rows_of(self.sites, self.values, self.errors)

    @property
    def gradient_norm(self) -> float | None:
        """Give √Σ g² over all that was differentiated; None where nothing was."""
        errors = [row.error for row in self.rows if row.is_argument and row.error is not None]
        if not errors:
            return None
        if any(error.trouble for error in errors):
            return math.nan if any("NaN" in error.trouble for error in errors) else math.inf
        return math.hypot(*(error.rms * math.sqrt(error.count) for error in errors))

    def table(self, by: str = "line", limit: int | None = 40) -> Printed:
        """Return the table of all places, in the order in which the program comes to them; print it, or let a notebook.

        Args:
            by: "line" has a row for each source line (and each module that it is run for), with the result of the last
                of its equations; "equation" has one for each; "argument" has the arguments with their gradients.
            limit: how many rows are shown: those that are not finite first, others from all depths. None shows all.

        Raises:
            JaxpropError: `by` is none of these.

        >>> import jax.numpy as jnp
        >>> found = report(lambda w: jnp.sum(jnp.log(w)))(jnp.array([1.0, 0.0]))
        >>> print(found.table("argument"))
        argument  shape       value RMS  largest  zero  gradient RMS  largest  zero  not finite
        w         float32[2]      0.707        1   50%             1        1    0%  gradient inf 50%
        """
        return tabulated.tabulated(self.rows, by, limit, said.not_looked_into(self.sites))

    def scopes(self, limit: int | None = 60) -> Printed:
        """Return the table of modules, each below the one around it: what it gives on, and the error of that.

        The gradient is the RMS of that of all its parameters.

        Args:
            limit: how many rows are shown: where there are more, the innermost modules are left out first. None shows
                all.
        """
        return tabulated.modules(self.rows, limit, said.not_looked_into(self.sites))

    def at(self, place: str) -> "Report":
        """Return the report of one place alone.

        Args:
            place: a module such as "Block_1/Dense_0", or "Dense_0", the outermost of this name; or a line such as
                "model.py:12"; or an argument such as "params['w']".

        Raises:
            JaxpropError: nothing is there, or the place is in several modules; it names what is near.
        """
        whole, sites = asked.sites_at(self.sites, place)
        reading = Reading(self.value, self.aux, self.grads, self.values, self.errors, sites, self.light)
        return Report(reading, call=self.call, made_with=self.made_with, at=whole)

    def plot(self, axes: "np.ndarray | Sequence[Axes] | None" = None) -> np.ndarray:
        """Draw the RMS of values and of errors through depth, on logarithmic scales; return both axes.

        A dot is an equation, in the order in which the program runs; the steps of a scan stand one after the other. The
        line goes through what each module gives on, or each source line where there are no modules. NaN and infinity
        are marked above, errors that are all 0 below. The picture of one place is `report.at(place).plot()`.

        Args:
            axes: two axes to draw on, for values and for errors; those of a new figure if None.

        Raises:
            JaxpropError: matplotlib is not there, or nothing was measured.

        >>> import jax.numpy as jnp
        >>> values, errors = report(lambda w: jnp.sum(jnp.sin(w)))(jnp.ones(3)).plot()
        >>> values.get_yscale(), errors.get_title(loc="left")
        ('log', 'Errors ∂C/∂value: backward, from right to left')
        """
        return picture.draw(self.rows, f" of {self.scope}" if self.scope else "", axes)

    def __str__(self) -> str:
        head = f"X-ray{f' of {self.scope}' if self.scope else ''}: {', '.join(self._figures())}"
        return "\n".join([head, *said.not_finite(self.rows, self._came_out_finite()), *said.through_depth(self.rows)])

    def __repr__(self) -> str:
        return f"{self}\n.table(), .scopes(), .at(place) and .plot() show more."

    def _repr_html_(self) -> str:
        written = "".join(f"<p>{escape(line)}</p>" for line in str(self).splitlines())
        return f"{written}{self.table().as_table().html()}"

    def _came_out_finite(self) -> str:
        """What is finite of that which the user sees, where all is."""
        outputs = (np.asarray(leaf) for leaf in jax.tree.leaves(((self.value, self.aux), self.gradient_norm)))
        if not all(np.isfinite(leaf).all() for leaf in outputs if np.issubdtype(leaf.dtype, np.inexact)):
            return ""
        return "The value and the gradient are" if self.errors else "What comes out is"

    def _figures(self) -> Iterator[str]:
        """The numbers of its first line."""
        if (value := written.number_of(self.value)) is not None:
            yield f"value {shown(value)}"
        if self.gradient_norm is not None:
            yield f"norm of the gradient {shown(self.gradient_norm)}"
        count = sum(not site.is_argument for site in self.sites)
        measured = len({row.site.path for row in self.rows if not row.is_argument})
        yield f"{count} equation{'s' * (count != 1)} ({measured} measured)"
        modules = len(groups.scopes(site.scope for site in self.sites if not site.is_argument)) - 1
        if modules and not self.scope:
            yield f"{modules} module{'s' * (modules != 1)}"

    def nonfinite(self) -> Findings:
        """Find where the first NaN or infinity was made, and why: `jp.xray.nonfinite(report)`."""
        return nonfinite(self)

    def json(self) -> dict[str, Any]:
        """Return plain data for `json.dump`: strict JSON, in which NaN and infinity are "nan", "inf" and "-inf".

        >>> import json, jax.numpy as jnp
        >>> found = report(lambda w: jnp.sum(jnp.log(w)))(jnp.array([1.0, 0.0]))
        >>> again = Report.from_json(json.loads(json.dumps(found.json(), allow_nan=False)))
        >>> again.value, again.rows[1].name, again.rows[1].value.trouble
        (-inf, 'log', 'inf')
        """
        reading = Reading(self.value, None, None, self.values, self.errors, self.sites, self.light)
        return written.to_json(reading, self.made_with, self.scope)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Report":
        """Make a report again of what `json` gave, on another machine or under another version of JAX, say.

        Raises:
            JaxpropError: it is no report, or one of a later jaxprop.
        """
        return cls(written.from_json(data), made_with=dict(data["made_with"]), at=data["scope"])
