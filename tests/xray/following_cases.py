"""Functions of one example and what becomes of their parameters: {name: (f, params, x, {parameter: kind of use})}.

A kind that begins with "Dense" goes on with a word of the reason.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

N = 3
DRAWN = np.random.default_rng(0)


def rows(*shape):
    return DRAWN.standard_normal(shape)  # NumPy's: this file is imported in 32 bits


def ids(*shape, below=7):
    return DRAWN.integers(0, below, shape)


def bend(y):
    """A number of an array, with another error at every place."""
    return jnp.sum(jnp.tanh(y) ** 2 + jnp.cos(y))


def lstm(p, x):
    """One product of two kernels side by side, closed over in a scan."""

    def step(h, x):
        gate, new = jnp.split(jnp.concatenate([x, h]) @ jnp.concatenate([p["w"], p["u"]]) + p["b"], 2)
        return jnp.tanh(gate) * h + jnp.tanh(new), None

    return bend(lax.scan(step, jnp.zeros(2), x)[0])


def blocks(p, x):
    """Blocks that a scan goes over, remat inside, one weight used twice."""

    def block(h, p):
        return h + jax.checkpoint(lambda h, p: (jnp.tanh(h @ p["w"] + p["b"]) @ p["w"]) * p["g"])(h, p), None

    return bend(lax.scan(block, x, p)[0])


def nested(p, x):
    """A scan over blocks inside a scan over blocks; what the outer one goes over is closed over in the inner one."""

    def outer(h, p):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w @ p["u"]), None), h, p["w"])[0], None

    return bend(lax.scan(outer, x, p)[0])


def layers_in_time(p, x):
    """A scan over blocks inside a scan over time."""

    def step(h, x):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w + x), None), h, p["w"])[0], None

    return bend(lax.scan(step, jnp.zeros(4), x)[0])


def carried(p, x):
    """A scan carries a weight on, unchanged."""

    def step(carry, _):
        h, w = carry
        return (jnp.tanh(h @ w), w), None

    (h, w), _ = lax.scan(step, (x, p["w"]), None, length=3)
    return bend(h @ w)


def chosen(p, x):
    """The example chooses, inside a scan and around one."""

    def block(h, p):
        return lax.cond(jnp.sum(h) > 0, lambda h: jnp.tanh(h @ p["w"]), lambda h: h + p["b"], h), None

    return lax.cond(x[0] > 0, lambda x: bend(lax.scan(block, x, p)[0]), lambda x: bend(x @ p["w"][0]), x)


def convolved(spec, **settings):
    def f(p, x):
        return bend(lax.conv_general_dilated(x, p["w"], dimension_numbers=spec, **settings))

    return f


def in_time(p, x):
    """A convolution closed over in a scan, of two rows at once."""

    def step(h, x):
        y = lax.conv_general_dilated(x, p["w"], (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))
        return jnp.tanh(y + h), None

    return bend(lax.scan(step, jnp.zeros((2, 6, 3)), x)[0])


def products():
    x = rows(N, 5, 4)
    return {
        "weight on the left": (lambda p, x: bend(p["w"] @ x.T), {"w": rows(3, 4)}, x, {"w": "Outer"}),
        "attention": (
            lambda p, x: bend(jnp.einsum("thk,hkd->td", jnp.einsum("td,dhk->thk", x, p["w"]) + p["b"], p["o"])),
            {"w": rows(4, 2, 3), "b": rows(2, 3), "o": rows(2, 3, 4)}, x, {"w": "Outer", "b": "Shift", "o": "Outer"},
        ),
        "groups": (
            lambda p, x: bend(jnp.einsum("tgi,iog->otg", x, p["w"])), {"w": rows(3, 4, 2)}, rows(N, 5, 2, 3),
            {"w": "Stacked Outer"},
        ),
        "tied": (
            lambda p, x: bend(jnp.tanh(p["e"][x]) @ p["e"].T), {"e": rows(7, 4)}, ids(N, 5), {"e": "Lookup + Outer"},
        ),
        "columns of one": (
            lambda p, x: bend((x @ p["w"][:, :3]) * (x @ p["w"][:, 3:])), {"w": rows(4, 6)}, x, {"w": "Outer + Outer"},
        ),
        "beside others": (
            lambda p, x: bend(
                x @ jnp.concatenate([p["w"], p["v"]], 1)[:, 1:] + jnp.concatenate([p["b"], p["c"]])[1:]
            ),
            {"w": rows(4, 3), "v": rows(4, 2), "b": rows(3), "c": rows(2)}, x,
            {"w": "Outer", "v": "Outer", "b": "Shift", "c": "Shift"},
        ),
        "a sum of weights": (
            lambda p, x: bend(x @ (p["w"] + p["a"] @ p["b"])), {"w": rows(4, 3), "a": rows(4, 1), "b": rows(1, 3)}, x,
            {"w": "Outer", "a": "Dense dot_general", "b": "Dense dot_general"},
        ),
        "masked": (lambda p, x: bend(x @ (p["w"] * np.tri(4))), {"w": rows(4, 4)}, x, {"w": "Dense mul"}),
        "decay": (lambda p, x: bend(x @ p["w"]) + bend(p["w"]), {"w": rows(4, 3)}, x, {"w": "Dense tanh"}),
        "multiplied": (
            lambda p, x: bend(x @ (0.5 * p["w"]) + x @ (-p["v"] / 4 + 1) + x @ (p["w"] - 3 * p["u"][::-1])),
            {"w": rows(4, 3), "v": rows(4, 3), "u": rows(4, 3)}, x, {"w": "Outer + Outer", "v": "Outer", "u": "Outer"},
        ),
        "on top of each other": (
            lambda p, x: bend(jnp.einsum("ti,igo->tgo", x, jnp.stack([p["w"], 2 * p["v"]], 1)[1:, ::-1])),
            {"w": rows(5, 3), "v": rows(5, 3)}, x, {"w": "Outer", "v": "Outer"},
        ),
        "unused": (
            lambda p, x: bend(x @ p["w"] @ jnp.pad(p["e"], ((0, 0), (0, 2))) + lax.stop_gradient(p["f"])),
            {"e": rows(3, 0), "f": rows(5, 2), "u": rows(), "w": rows(4, 3)}, x,
            {"e": "Nothing", "u": "Nothing", "f": "Nothing", "w": "Outer"},
        ),
        "of complex numbers": (
            lambda p, x: bend(jnp.abs(x.astype(complex) @ p["w"].astype(complex) * (1 + 2j) + 1j)), {"w": rows(4, 3)},
            x, {"w": "Dense convert_element_type with complex numbers"},
        ),
    }  # fmt: skip


def arithmetic():
    x = rows(N, 5, 4)
    return {
        "norm": (
            lambda p, x: bend((x - jnp.mean(x, 1, keepdims=True)) * (1 + p["g"]) - p["b"]),
            {"g": rows(4), "b": rows(4)}, x,
            {"g": "Scale", "b": "Shift"},
        ),
        "axes of one": (
            lambda p, x: bend(lax.add(lax.mul(p["g"][None], jnp.tanh(x)), p["b"][:, None])),
            {"g": rows(4), "b": rows(5)}, x,
            {"g": "Scale", "b": "Shift"},
        ),
        "slope": (lambda p, x: bend(jnp.where(x > 0, x, x * p["s"])), {"s": rows()}, x, {"s": "Scale"}),
        "places": (
            lambda p, x: bend(x + p["t"][:5] + p["u"][0]), {"t": rows(8, 4), "u": rows(1, 5, 4)}, x,
            {"t": "Leading", "u": "Leading"},
        ),
        "a row in front": (
            lambda p, x: bend(jnp.concatenate([p["c"], x]) @ p["w"]), {"c": rows(1, 4), "w": rows(4, 2)}, x,
            {"c": "Shift", "w": "Outer"},
        ),
        "columns looked up": (
            lambda p, x: bend(jnp.take(p["e"], x, axis=1)), {"e": rows(3, 7)}, ids(N, 5), {"e": "Lookup"},
        ),
        "rows cut out": (
            lambda p, x: bend(lax.dynamic_slice_in_dim(p["e"], x, 3)), {"e": rows(7, 4)}, ids(N, below=9),
            {"e": "Lookup"},
        ),
    }  # fmt: skip


def scans():
    x, square = rows(N, 5, 4), {"w": rows(2, 4, 4)}
    return {
        "lstm": (
            lstm, {"w": rows(4, 4), "u": rows(2, 4), "b": rows(4)}, x, {"w": "Outer", "u": "Outer", "b": "Shift"},
        ),
        "blocks": (
            blocks, {"w": rows(2, 4, 4) / 3, "b": rows(2, 4), "g": rows(2, 4)}, x,
            {"w": "Stacked Outer + Outer", "b": "Stacked Shift", "g": "Stacked Scale"},
        ),
        "nested": (
            nested, {"w": rows(2, 3, 4, 4), "u": rows(2, 4, 4)}, x,
            {"w": "Stacked Stacked Outer", "u": "Stacked Outer"},
        ),
        "over what is multiplied": (
            lambda p, x: bend(lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, -0.5 * p["w"])[0]), square, x,
            {"w": "Stacked Outer"},
        ),
        "layers in time": (layers_in_time, square, x, {"w": "Stacked Outer"}),
        "carried": (carried, {"w": rows(4, 4)}, x, {"w": "Outer + Outer"}),
        "chosen": (
            chosen, square | {"b": rows(2, 4)}, rows(6, 4), {"w": "Dense a scan goes over it", "b": "Stacked Shift"},
        ),
    }  # fmt: skip


def convolutions():
    last, first = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
    x, w = rows(N, 1, 6, 5, 2), {"w": rows(3, 2, 2, 4)}
    settings = {
        "strides": dict(window_strides=(2, 1), padding="VALID"),
        "dilation": dict(window_strides=(1, 1), padding=[(1, 2), (0, 1)], rhs_dilation=(2, 1)),
        "transposed": dict(window_strides=(1, 1), padding=[(2, 2), (1, 1)], lhs_dilation=(2, 3)),
        "cropped": dict(window_strides=(1, 1), padding=[(-1, 2), (0, -1)]),
    }
    found = {name: (convolved(last, **each), w, x, {"w": "Patch"}) for name, each in settings.items()}
    turned = {"w": np.transpose(w["w"], (3, 2, 0, 1))}
    of_two = np.concatenate([x, rows(*x.shape)], axis=1)
    plain = dict(window_strides=(1, 1), padding="SAME")
    return found | {
        "channels first": (convolved(first, **plain), turned, np.moveaxis(x, -1, 2), {"w": "Patch"}),
        "turned round": (
            lambda p, x: found["transposed"][0]({"w": p["w"][::-1, ::-1]}, x), w, x, {"w": "Patch"},
        ),
        "of two rows": (convolved(last, **plain), w, of_two, {"w": "Patch"}),
        "in time": (in_time, {"w": rows(3, 2, 3)}, rows(N, 4, 2, 6, 2), {"w": "Patch"}),
        "groups": (
            convolved(last, **plain, feature_group_count=2), {"w": rows(3, 3, 2, 6)}, rows(N, 1, 5, 5, 4),
            {"w": "Patch"},
        ),
        "spread and strided": (
            convolved(last, window_strides=(2, 1), padding=[(2, 2), (1, 1)], lhs_dilation=(2, 3)), w, x,
            {"w": "Dense a convolution"},
        ),
        "of a function of the kernel": (
            lambda p, x: bend(lax.conv_general_dilated(x, jnp.tanh(p["w"]), (1, 1), "SAME", dimension_numbers=last)),
            w, x, {"w": "Dense tanh"},
        ),
    }  # fmt: skip


CASES = {"products": products(), "arithmetic": arithmetic(), "scans": scans(), "convolutions": convolutions()}
