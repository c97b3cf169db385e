"""The displayed formulas of the chapters: written by the library's formula tree, never typed.

Each entry of `FORMULAS` returns equations and the number of every symbol in them. The numbers come from the library's
own forward and backward pass, so an equation whose sides differ is an error in the formula. A chapter holds

    <!-- formula: weighted_sum -->
    <!-- /formula -->

and `python docs/chapters/formulas.py --write` fills what is between; without `--write` it says which chapters differ.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop.derivations.calculus import derivative
from jaxprop.derivations.derivation import Equation, labelled_sum, term_equations, to_latex, worked
from jaxprop.derivations.formula import Call, Derivative, Formula, Number, Sum, Symbol, substitute

HERE = Path(__file__).parent
BLOCK = re.compile(r"(<!-- formula: (\w+) -->\n).*?(<!-- /formula -->)", re.DOTALL)
DIGITS = 5

Values = dict[Formula, float]
Shown = tuple[tuple[Equation, ...], Values]

a, b, f, h, w, x, y, z = (Symbol(name) for name in "abfhwxyz")
C, δ, η, target = (Symbol(name) for name in ("C", "δ", "η", "target"))
W1, W2, W3 = (Symbol("w", (i,)) for i in (1, 2, 3))
X1, X2, X3 = (Symbol("x", (i,)) for i in (1, 2, 3))
σ_of_z = Call("sigmoid", z)
half_squared = (a - target) ** 2 / 2


def D(of: Formula, by: Formula) -> Derivative:
    """∂of/∂by."""
    return Derivative(of, by)


def neuron() -> Values:
    """The neuron [1, 3, 2], w = [0.5, −0.25, 0.75], b = 0.1 with target 1, from a pass of the library."""
    net, cost = jp.Chain(jp.Linear(1), jp.Sigmoid()), jp.HalfSquaredError()
    params = (jp.LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1])), ())
    inputs, targets = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0]])
    value, grads = jp.manual.value_and_grad(net, cost)(inputs, params, targets)
    tape = jp.manual.trace(net, cost)(inputs, params, targets)
    values: Values = {target: 1.0, b: 0.1, C: float(value)}
    for i, (wi, xi) in enumerate(zip((W1, W2, W3), (X1, X2, X3), strict=True)):
        values |= {wi: float(params[0].W[i, 0]), xi: float(inputs[0, i]), D(C, wi): float(grads[0].W[i, 0])}
        values[D(z, wi)] = float(inputs[0, i])
    sigmoid = tape["1"]
    values |= {z: sigmoid.x.item(), a: sigmoid.y.item(), D(C, a): sigmoid.dy.item()}
    values |= {D(a, z): sigmoid.derivative.item(), D(C, z): sigmoid.dx.item(), δ: sigmoid.dx.item()}
    return values | {D(z, b): 1.0, D(C, b): float(grads[0].b[0])}


def chain() -> Values:
    """y = w₂w₁x with w = (0.4, 0.3), x = 1 and target 2: the article's two perceptrons in a row."""
    one = jp.Linear(1, bias=False)
    params = tuple(jp.LinearParams(W=jnp.array([[v]]), b=None) for v in (0.4, 0.3))
    net, cost, ones = jp.Chain(one, one), jp.HalfSquaredError(), jnp.ones((1, 1))
    value, (g1, g2) = jp.manual.value_and_grad(net, cost)(ones, params, 2 * ones)
    dy = jp.manual.trace(net, cost)(ones, params, 2 * ones)["1"].dy.item()
    values = {W1: 0.4, W2: 0.3, x: 1.0, target: 2.0, C: float(value), y: net(ones, params).item(), D(C, y): dy}
    return values | {D(C, W1): g1.W.item(), D(C, W2): g2.W.item()}


def hidden_layer() -> tuple[Values, list[Symbol], list[list[Symbol]]]:
    """The neuron and a second one beside it, and two linear outputs above: where paths first meet."""
    net, cost = jp.Chain(jp.Linear(2), jp.Sigmoid(), jp.Linear(2)), jp.HalfSquaredError()
    params = (
        jp.LinearParams(W=jnp.array([[0.5, -0.5], [-0.25, 0.25], [0.75, 0.25]]), b=jnp.array([0.1, 0.0])),
        (),
        jp.LinearParams(W=jnp.array([[1.0, -0.5], [0.5, 2.0]]), b=jnp.zeros(2)),
    )
    inputs, targets = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0, 0.0]])
    tape = jp.manual.trace(net, cost)(inputs, params, targets)
    _, grads = jp.manual.value_and_grad(net, cost)(inputs, params, targets)
    errors = [Symbol("δ", (k,), layer=2) for k in (1, 2)]
    weights = [[Symbol("W", (j, k), layer=2) for k in (1, 2)] for j in (1, 2)]
    values: Values = {error: float(d) for error, d in zip(errors, tape["2"].dy[0], strict=True)}
    for j in (0, 1):
        values |= {weights[j][k]: float(params[2].W[j, k]) for k in (0, 1)}
        aj, zj, dj = (Symbol(name, (j + 1,), layer=1) for name in "azδ")
        values |= {D(C, aj): float(tape["1"].dy[0, j]), D(aj, zj): float(tape["1"].derivative[0, j])}
        values |= {dj: float(tape["1"].dx[0, j]), aj: float(tape["1"].y[0, j])}
        for i in (0, 1, 2):
            values[D(C, Symbol("W", (i + 1, j + 1), layer=1))] = float(grads[0].W[i, j])
    return values | {X1: 1.0, X2: 3.0, X3: 2.0}, errors, weights


def weighted_sum() -> Shown:
    """The sum over the weights, and the bias once."""
    values = neuron()
    return (worked(z, Sum((W1 * X1, W2 * X2, W3 * X3, b)), values=values),), values


def sigmoid() -> Shown:
    """The activation of the neuron."""
    values = neuron()
    return (worked(a, σ_of_z, 1 / (1 + Call("exp", -z)), values=values),), values


def mean_square(slope: float, shift: float) -> float:
    """The mean of (slope·x + shift − x²)² over [−1, 1], by a quadrature that is exact for such polynomials."""
    points, weights = np.polynomial.legendre.leggauss(5)
    return float(np.sum(weights * (slope * points + shift - points**2) ** 2) / 2)


def best_line() -> Shown:
    """The mean squared error of wx for x²."""
    values = {w: 0.7, C: mean_square(0.7, 0.0)}
    return (Equation((C, w**2 / 3 + Number(1) / 5)),), values


def best_affine() -> Shown:
    """The mean squared error of wx + b for x²."""
    values = {w: 0.7, b: -0.4, C: mean_square(0.7, -0.4)}
    return (Equation((C, w**2 / 3 + (b - Number(1) / 3) ** 2 + Number(4) / 45)),), values


def collapse() -> Shown:
    """Two affine units in a row are one."""
    b1, b2 = Symbol("b", (1,)), Symbol("b", (2,))
    values = {W1: 0.4, W2: 0.3, b1: 0.2, b2: -0.1, x: 2.5}
    params = [(values[W1], values[b1]), (values[W2], values[b2])]
    params = tuple(jp.LinearParams(W=jnp.array([[v]]), b=jnp.array([s])) for v, s in params)
    values[y] = jp.Chain(jp.Linear(1), jp.Linear(1))(jnp.array([[2.5]]), params).item()
    return (Equation((y, W2 * (W1 * x + b1) + b2, (W2 * W1) * x + (W2 * b1 + b2))),), values


def two_in_a_row() -> Shown:
    """The article's f(x, w₁, w₂)."""
    values = chain()
    return (worked(y, W2 * W1 * x, values=values),), values


def output_sum() -> Shown:
    """The article's output: a weighted sum of activations, without bias and without activation."""
    a1, a2 = (Symbol("a", (i,), layer=1) for i in (1, 2))
    v1, v2 = (Symbol("W", (i, 1), layer=2) for i in (1, 2))
    found, _, _ = hidden_layer()
    out = jp.LinearParams(W=jnp.array([[1.0], [0.5]]), b=None)
    values = {a1: found[a1], a2: found[a2], v1: 1.0, v2: 0.5}
    values[y] = jp.Linear(1, bias=False)(jnp.array([[values[a1], values[a2]]]), out).item()
    return (worked(y, v1 * a1 + v2 * a2, values=values),), values


def half_squared_error() -> Shown:
    """The cost of the neuron."""
    values = neuron()
    return (worked(C, half_squared, values=values),), values


def half_squared_slope() -> Shown:
    """Its slope: the half cancels the 2."""
    values = neuron()
    return (worked(D(C, a), derivative(half_squared, a), values=values),), values


def chain_cost() -> Shown:
    """The cost of the chain."""
    values = chain()
    return (worked(C, (y - target) ** 2 / 2, values=values),), values


def cross_entropy_slope() -> Shown:
    """δ of the sigmoid with cross-entropy: σ' has cancelled."""
    values = neuron()
    net, cost = jp.Identity(), jp.SigmoidCrossEntropy()
    values[D(C, z)] = cost.delta(net(jnp.array([[values[z]]])), jnp.array([[1.0]])).item()
    return (worked(D(C, z), σ_of_z - target, values=values),), values


def chain_rule() -> Shown:
    """The three factors of a weight."""
    values = neuron()
    return (Equation((D(C, W1), D(C, a) * D(a, z) * D(z, W1))),), values


def factors() -> Shown:
    """Each factor with its numbers, derived by the library's own calculus."""
    values = neuron()
    total = Sum((W1 * X1, W2 * X2, W3 * X3, b))
    return (
        worked(D(C, a), derivative(half_squared, a), values=values),
        worked(D(a, z), derivative(σ_of_z, z), values=values),
        worked(D(z, W1), derivative(total, W1), values=values),
    ), values


def error_term() -> Shown:
    """δ, what the first two factors have in common for all parameters of the neuron."""
    values = neuron()
    return (worked(δ, D(C, z), D(C, a) * D(a, z), values=values),), values


def gradient() -> Shown:
    """The three weights and the bias."""
    values = neuron()
    weights = (worked(D(C, wi), δ * xi, values=values) for wi, xi in ((W1, X1), (W2, X2), (W3, X3)))
    return (*weights, worked(D(C, b), D(C, z) * D(z, b), δ, values=values)), values


def chain_gradient() -> Shown:
    """Both weights of the chain."""
    values = chain()
    cost = (W2 * W1 * x - target) ** 2 / 2
    return tuple(worked(D(C, v), derivative(cost, v), values=values) for v in (W1, W2)), values


def bend() -> Shown:
    """The outer derivative at the inside."""
    formula = 3 * (x**2 + 1) ** 3
    with jax.enable_x64(True):
        values = {x: 2.0, Derivative(f, x, "d"): float(jax.grad(lambda v: 3 * (v**2 + 1) ** 3)(2.0))}
    return (worked(Derivative(f, x, "d"), derivative(formula, x), values=values),), values


def paths() -> Shown:
    """The sum over paths from the first hidden unit."""
    values, errors, weights = hidden_layer()
    terms = {f"through output {k + 1}": errors[k] * weights[0][k] for k in (0, 1)}
    total = labelled_sum(terms)
    lhs = D(C, Symbol("a", (1,), layer=1))
    numbers = substitute(total, values)
    return (
        Equation((lhs, total)),
        Equation((lhs, numbers, Number(values[lhs]))),
        *term_equations(total, values),
    ), values


def hidden_error() -> Shown:
    """δ of the hidden unit, and a weight below it."""
    values, errors, weights = hidden_layer()
    a1, z1, d1 = (Symbol(name, (1,), layer=1) for name in "azδ")
    below = D(C, Symbol("W", (2, 1), layer=1))
    total = errors[0] * weights[0][0] + errors[1] * weights[0][1]
    first = Equation((d1, total * D(a1, z1)))
    return (first, worked(d1, D(C, a1) * D(a1, z1), values=values), worked(below, d1 * X2, values=values)), values


def update() -> Shown:
    """One step of gradient descent."""
    values = chain() | {η: 0.1}
    new = [Symbol(f"{v.name}'", v.index) for v in (W1, W2)]
    equations = tuple(worked(n, v - η * D(C, v), values=values) for n, v in zip(new, (W1, W2), strict=True))
    return equations, values | {n: values[v] - 0.1 * values[D(C, v)] for n, v in zip(new, (W1, W2), strict=True)}


def predicted_change() -> Shown:
    """What the slope promises."""
    values = chain() | {η: 0.1}
    change = Symbol("promised")
    values[change] = -0.1 * (values[D(C, W1)] ** 2 + values[D(C, W2)] ** 2)
    return (worked(change, -(η * (D(C, W1) ** 2 + D(C, W2) ** 2)), values=values),), values


def shrink() -> Shown:
    """The error of one weight with target kx: multiplied by 1 − ηx² in every step."""
    k = Symbol("k")
    values: Values = {w: 0.25, x: 0.8, k: 2.0, η: 0.5}
    values[D(C, w)] = jax.grad(lambda v: 0.5 * (v * 0.8 - 1.6) ** 2)(0.25).item()
    return (Equation((w - η * D(C, w) - k, (1 - η * x**2) * (w - k))),), values


def central_difference() -> Shown:
    """Two nudges."""
    up, down, by = Symbol("C(w + h)"), Symbol("C(w - h)"), 1e-5
    values = chain() | {h: by}
    values |= {up: ((0.4 + by) * 0.3 - 2) ** 2 / 2, down: ((0.4 - by) * 0.3 - 2) ** 2 / 2, D(C, w): values[D(C, W1)]}
    return (Equation((D(C, w), (up - down) / (2 * h)), exact=False),), values


FORMULAS: dict[str, Callable[[], Shown]] = {
    entry.__name__: entry
    for entry in (
        *(weighted_sum, sigmoid, best_line, best_affine, collapse, two_in_a_row, output_sum),
        *(half_squared_error, half_squared_slope, chain_cost, cross_entropy_slope),
        *(chain_rule, factors, error_term, gradient, chain_gradient, bend, paths, hidden_error),
        *(update, predicted_change, shrink, central_difference),
    )
}


def shown(name: str) -> Shown:
    """Return the equations of a formula and their numbers, in float64."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        return FORMULAS[name]()


def display(name: str) -> str:
    """Return a formula as the Markdown of GitHub: a block of LaTeX."""
    lines = [to_latex(equation, DIGITS) for equation in shown(name)[0]]
    body = lines[0] if len(lines) == 1 else "\\begin{gathered}\n" + " \\\\[4pt]\n".join(lines) + "\n\\end{gathered}"
    return f"```math\n{body}\n```\n"


def filled(text: str) -> str:
    """Return a chapter with every block written anew."""
    return BLOCK.sub(lambda found: found[1] + display(found[2]) + found[3], text)


def main() -> int:
    """Write the blocks, or say which chapters differ."""
    differing = [
        path for path in sorted(HERE.glob("*.md")) if filled(path.read_text("utf-8")) != path.read_text("utf-8")
    ]
    for path in differing:
        if "--write" in sys.argv:
            path.write_text(filled(path.read_text("utf-8")), "utf-8")
        print(path.name, "written" if "--write" in sys.argv else "differs: python docs/chapters/formulas.py --write")
    return 0 if "--write" in sys.argv or not differing else 1


if __name__ == "__main__":
    sys.exit(main())
