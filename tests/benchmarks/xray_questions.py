"""One set of questions, put to `jp.xray`, `jax_debug_nans` and `checkify` about small functions in plain JAX.

    python tests/benchmarks/xray_questions.py        each question, and what each answers

`xray_questions_torch.py` puts the same to TorchLens. Times and memory are in `xray.py`, but for that of jax_debug_nans.
"""

import traceback

import jax
import jax.numpy as jnp
from jax.experimental import checkify
from measure import in_turn, ratios
from xray_models import cases

import jaxprop as jp


def logarithm(w, x):
    """The logarithm of a probability that is 0: −∞, and 0 · (−∞) in the entropy."""
    p = jax.nn.softmax(100 * x @ w)
    return -jnp.sum(p * jnp.log(p))


def distances(w, x):
    """Distances between neighbouring points: the gradient of a norm at 0 is NaN."""
    y = x @ w
    steps = y[1:] - y[:-1]
    return jnp.sum(jnp.sqrt(jnp.sum(steps**2, -1)))


def recurrence(w, x):
    """A recurrence that leaves the domain of the square root in the seventh step."""

    def step(x, _):
        return jnp.sqrt(x * w) - 0.35, None

    return jnp.sum(jax.lax.scan(step, x, length=12)[0])


def masked(w, x):
    """NaN in rows that a mask takes out again: nothing is wrong."""
    logs = jnp.log(x[:, 0])
    return jnp.sum((x @ w) * jnp.where(x[:, 0] > 0, logs, 0.0))


def batched(w, x):
    """The distances of a batch of point clouds, jitted inside of a vmap."""
    return jnp.mean(jax.vmap(jax.jit(distances), (None, 0))(w, x))


POINTS = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
ROWS = jnp.array([[2.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])
QUESTIONS = {
    "the line that made it, forward": (logarithm, jnp.eye(3), jnp.array([1.0, 2.0, 3.0])),
    "the line that made it, in the gradient": (distances, jnp.eye(3), POINTS),
    "the step of a scan": (recurrence, jnp.array(1.0), jnp.array([1.0])),
    "under jit and vmap": (batched, jnp.eye(3), jnp.stack([ROWS @ jnp.ones((3, 3)), POINTS[:2]])),
    "NaN behind a mask that must not halt": (masked, jnp.ones(3), ROWS),
}


def said(error):
    """What an error says, and the last line of these functions in its traceback."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
    return f"{str(error).splitlines()[0]} at line {ours[-1].lineno}: {ours[-1].line}"


def by_debug_nans(f, *args, jitted=True):
    """What `jax_debug_nans` says."""
    grad = jax.value_and_grad(f)
    with jax.debug_nans(True):
        try:
            jax.block_until_ready((jax.jit(grad) if jitted else grad)(*args))
        except FloatingPointError as error:
            return said(error)
    return "nothing"


def by_checkify(f, *args):
    """What `checkify` says with its checks of numbers."""
    checked = checkify.checkify(jax.value_and_grad(f), errors=checkify.float_checks)
    try:
        checkify.check_error(jax.jit(checked)(*args)[0])
    except checkify.JaxRuntimeError as error:
        return said(error)
    return "nothing"


def times_of_others():
    """A step of the MLP's gradient with jax_debug_nans, and one under checkify, ÷ one without."""
    loss, *inputs = cases()["MLP 784-512-512-10, batch 256"]
    grad = jax.grad(lambda *inputs: jnp.mean(jax.vmap(loss, (None, 0, 0))(*inputs)))
    plain, checked = jax.jit(grad), jax.jit(checkify.checkify(grad, errors=checkify.float_checks))

    def with_flag():
        with jax.debug_nans(True):
            return plain(*inputs)

    ways = {"plain": lambda: plain(*inputs), "debug_nans": with_flag, "checkify": lambda: checked(*inputs)[1]}
    seconds = in_turn(ways, 15)
    memory = {
        way: f.lower(*inputs).compile().memory_analysis().temp_size_in_bytes
        for way, f in (("plain", plain), ("checkify", checked))
    }
    return {way: ratios(seconds, way, "plain") for way in ("debug_nans", "checkify")}, memory


if __name__ == "__main__":
    for question, (f, *args) in QUESTIONS.items():
        print(f"--- {question}\njax_debug_nans: {by_debug_nans(f, *args)}")
        print(f"without jit: {by_debug_nans(f, *args, jitted=False)}")
        print(f"checkify: {by_checkify(f, *args)}")
        print(f"X-ray: {jp.xray.report(f)(*args).nonfinite()}")
    print("--- time and memory of the others ÷ the plain gradient\n", times_of_others())
