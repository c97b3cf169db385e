"""Row 3: what goes into m₁, which the article writes as Σ_i w_i n_i + b_i.

Not right: with the index i, b looks as if it stood inside the Σ, once for every input. A unit has one bias, added once:
z = Σ_i w_i n_i + b. Nor is its later form right, z(a_i) = a_i w_i + b, which has no Σ: that is one number for each
input, not one for the unit.

Run: python docs/examples/article/row_03_weighted_sum.py
"""

import sys
from typing import Any

import jax.numpy as jnp

import jaxprop as jp
from jaxprop.derivations import to_text
from jaxprop.derivations.derivation import worked
from jaxprop.derivations.formula import Product, Sum, Symbol


def main(folder: str | None = None) -> dict[str, Any]:
    unit, n = jp.Linear(1), jnp.array([[1.0, 3.0, 2.0]])
    params = jp.LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1]))
    terms, b = n[0] * params.W[:, 0], params.b[0]

    pairs = [(Symbol("w", (i,)), Symbol("n", (i,))) for i in (1, 2, 3)]
    numbers = zip(pairs, params.W[:, 0], n[0], strict=True)
    values = {symbol: float(value) for pair, *both in numbers for symbol, value in zip(pair, both, strict=True)}
    total = Sum((*map(Product, pairs), Symbol("b")))
    equation = worked(Symbol("z"), total, values=values | {Symbol("b"): float(b)})

    found = {"z": float(unit(n, params)[0, 0]), "biases": int(params.b.size), "formula": to_text(equation)}
    found["b_inside_the_sum"] = float(jnp.sum(terms + b))
    found["without_the_sum"] = (terms + b).tolist()
    print(f"{found['formula']}\nthe layer itself: z = {found['z']:.5g}, with {found['biases']} bias")
    print(f"with b inside the Σ it would be {found['b_inside_the_sum']:.5g}")
    print(
        f"without the Σ there would be {len(terms)} numbers: {', '.join(f'{t:.5g}' for t in found['without_the_sum'])}"
    )
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
