"""The explainer `gradient`: how a chosen output changes with each input value, and with what every layer gave.

    gradient     g_n = ∂y_nk/∂x_n
    attribution  a_n = (x_n − b) ⊙ ∫₀¹ ∂y_nk/∂x (b + α (x_n − b)) dα       "integrated": Σ a_n = y_nk(x_n) − y_nk(b)
    map          what reaches x_n where errors come back by another rule than the chain rule, such as guided
                 backpropagation (`jp.rules`)
    layers       y and dy = ∂y_nk/∂y of each, by the hand-derived pass, or by the rule

k counts a row's outputs in row-major order; by default it is each row's largest. The integral is the mean over the
midpoints of `steps` equal parts, and `convergence_delta` is by how much the sum misses.

Source: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks" (2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

import jaxprop as jp
from jaxprop_serve.api import (
    DATATYPES,
    Arrays,
    Compile,
    Function,
    Loaded,
    Question,
    ServeError,
    TensorSpec,
    leaves,
    located,
)

CHOSEN = TensorSpec("explain:output", "INT32", (-1,))  # k of each row; −1 is the largest
ROWS = 64  # points of the path that are computed at once
RULES = {
    "guided": jp.rules.GuidedBackprop(),
    "deconvnet": jp.rules.Deconvnet(),
    "straight_through": jp.rules.StraightThrough(),
}
FLOATS = ("FP16", "BF16", "FP32", "FP64")


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """What may be asked: k as a number or a class's name, and how the gradient is taken."""

    output: int | str | None = None
    method: Literal["plain", "integrated"] = "plain"
    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    baseline: float = 0.0  # b, everywhere
    rule: Literal["guided", "deconvnet", "straight_through"] | None = None
    layers: bool = False


class Gradient:
    """The explainer for one version of a model."""

    def __init__(self, loaded: Loaded, compile: Compile):
        if not loaded.differentiable or loaded.f is None:
            raise ServeError(501, "this model has no gradient: its function cannot be differentiated, or says not how")
        self.loaded, self.f, self.compile = loaded, loaded.f, compile
        self.moving = [spec.name for spec in loaded.signature.inputs if spec.datatype in FLOATS]
        self._functions: dict[tuple[str, str | None], Callable[[Arrays], Arrays]] = {}  # by output and rule

    def __call__(self, question: Question) -> Arrays:
        """Return `output` k and `value` y_nk of each row, each input's `gradient` or `attribution`, and the layers'."""
        asked = _parameters(question.parameters)
        self._check(asked, question.output)
        question.check_answer(self._answered(asked))
        k = np.full(len(next(iter(question.inputs.values()))), self._index(asked.output, question.output), np.int32)
        found = self._gradients(question.output.name, question.inputs, k, asked.rule)
        k = found["output"]
        gradients = {name: found.pop(f"d{name}") for name in self.moving}
        if asked.rule:
            found |= {self._called("map", name): found_by_rule for name, found_by_rule in gradients.items()}
        elif asked.method == "integrated":
            found |= self._integrated(question, found, asked)
        else:
            found |= {self._called("gradient", name): gradient for name, gradient in gradients.items()}
        net = self.loaded.net
        return found | self._layers(net, question.inputs, k, asked.rule) if asked.layers and net else found

    def _check(self, asked: Parameters, output: TensorSpec) -> None:
        """Refuse what cannot be explained in this way."""
        if output.datatype not in FLOATS:
            raise ServeError(400, f"output '{output.name}' is {output.datatype}: whole numbers have no gradient")
        if not self.moving and (asked.method == "integrated" or not asked.layers):
            spec = self.loaded.signature.inputs[0]
            hint = "; with the parameter 'layers' the errors of the layers are given" if self.loaded.net else ""
            raise ServeError(400, f"input '{spec.name}' is {spec.datatype}: whole numbers have no gradient{hint}")
        if (asked.layers or asked.rule) and self.loaded.net is None:
            raise ServeError(400, "no layers are known of this model, only a function: save it with jaxprop.save")
        if asked.rule and self.loaded.net is not None:
            try:
                RULES[asked.rule].choose(list(leaves(self.loaded.net)))
            except jp.JaxpropError as error:
                raise ServeError(400, f"parameter 'rule': {error}") from None

    def _answered(self, asked: Parameters) -> list[TensorSpec]:
        """Return the tensors of the answer, but for a number or two for each row."""
        found = [spec for spec in self.loaded.signature.inputs if spec.name in self.moving]
        return found + self._layer_tensors if asked.layers and self.loaded.net else found

    @cached_property
    def _layer_tensors(self) -> list[TensorSpec]:
        (x,), params, net = self.loaded.signature.inputs, self.loaded.params, self.loaded.net
        assert net is not None
        row = {spec.name: jax.ShapeDtypeStruct((1, *spec.shape[1:]), spec.dtype) for spec in (x, CHOSEN)}
        with jax.enable_x64(True):  # each has the size that it says
            found = jax.eval_shape(layers_of(net, x.name), row, params)
        names = {dtype: name for name, dtype in DATATYPES.items()}
        return [TensorSpec(name, names[y.dtype], y.shape) for name, y in found.items()]

    def _index(self, given: int | str | None, spec: TensorSpec) -> int:
        """Return k among a row's outputs; −1 stands for each row's largest."""
        if given is None:
            return -1
        size, classes = math.prod(spec.shape[1:]), self.loaded.classes
        if isinstance(given, int):
            if not 0 <= given < size:
                raise ServeError(
                    400, f"parameter 'output' is {str(given)[:40]}, a row of '{spec.name}' has 0 to {size - 1}"
                )
            return given
        if classes is None or spec.shape[1:] != (len(classes),):
            raise ServeError(400, f"parameter 'output': '{spec.name}' has no names of classes, give a number")
        if given not in classes:
            known = ", ".join(classes[:20])
            raise ServeError(400, f"parameter 'output': unknown class {given[:80]!r}, the classes are {known}")
        return classes.index(given)

    def _gradients(self, output: str, inputs: Arrays, k: np.ndarray, rule: str | None = None) -> Arrays:
        """Return `output` k, `value` y_nk, and `dNAME` ∂y_nk/∂x_n of each input that has one, by the rule if any."""
        function = self._functions.get((output, rule))
        if function is None:
            net = self.loaded.net
            if rule is None or net is None or not self.moving:
                g = gradient_of(self.f, output, self.moving)
            else:
                g = map_of(net, self.moving[0], RULES[rule])
            function = self._functions[output, rule] = self.compile(g, CHOSEN)
        return function(inputs | {CHOSEN.name: k})

    def _integrated(self, question: Question, found: Arrays, asked: Parameters) -> Arrays:
        """Return the `attribution` of each input, and `convergence_delta` `[rows]`."""
        output, inputs, k = question.output.name, question.inputs, found["output"]
        base = {name: _filled(inputs[name], asked.baseline) for name in self.moving}
        total = {name: np.zeros(inputs[name].shape) for name in self.moving}
        alphas = (np.arange(asked.steps) + 0.5) / asked.steps
        for some in np.array_split(alphas, min(asked.steps, math.ceil(asked.steps * len(k) / ROWS))):
            points = {name: _path(x, base.get(name), some) for name, x in inputs.items()}
            parts = self._gradients(output, points, np.tile(k, len(some)))
            for name in self.moving:
                total[name] += parts[f"d{name}"].reshape(len(some), *inputs[name].shape).sum(0, dtype=np.float64)
        start = self._gradients(output, inputs | base, k)["value"]
        answer, missing = {}, start.astype(np.float64) - found["value"]
        for name, mean in total.items():
            attribution = (inputs[name].astype(np.float64) - base[name].astype(np.float64)) * mean / asked.steps
            missing += attribution.reshape(len(k), -1).sum(1)
            answer[self._called("attribution", name)] = attribution.astype(inputs[name].dtype)
        return answer | {"convergence_delta": missing.astype(start.dtype)}

    def _layers(self, net: jp.Layer, inputs: Arrays, k: np.ndarray, rule: str | None) -> Arrays:
        """Return `PATH.y` and `PATH.dy` of every layer, in the order of the forward pass."""
        function = self._functions.get(("", rule))
        if function is None:
            (x,) = self.loaded.signature.inputs
            g = layers_of(net, x.name, RULES[rule] if rule else None)
            function = self._functions["", rule] = self.compile(g, CHOSEN)
        found = function(inputs | {CHOSEN.name: k})
        return {name: found[name] for leaf in leaves(net) for name in _names(leaf.path)}

    def _called(self, what: str, name: str) -> str:
        """Return `gradient`, or `gradient.NAME` where there are several inputs."""
        return what if len(self.loaded.signature.inputs) == 1 else f"{what}.{name}"


def gradient_of(f: Function, output: str, moving: list[str]) -> Function:
    """Return g(inputs, θ): k, y_nk, ∂y_nk/∂x_n.

    Rows are independent, so the gradient of their sum holds all of theirs.
    """

    def g(inputs: dict[str, jax.Array], params: PyTree) -> dict[str, jax.Array]:
        given = inputs[CHOSEN.name]
        fixed = {name: x for name, x in inputs.items() if name not in (CHOSEN.name, *moving)}

        def total(x: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
            y = f(x | fixed, params)[output].reshape(len(given), -1)
            k = jnp.where(given < 0, jnp.argmax(y, axis=1).astype(given.dtype), given)
            values = jnp.take_along_axis(y, k[:, None], axis=1)[:, 0]
            return values.sum(), {"output": k, "value": values}

        gradients, found = jax.grad(total, has_aux=True)({name: inputs[name] for name in moving})
        return {f"d{name}": gradient for name, gradient in gradients.items()} | found

    return g


def map_of(net: jp.Layer, x: str, rule: jp.rules.Rule) -> Function:
    """Return g(inputs, θ): k, y_nk, and what the rule brings back to x_n."""
    run = jp.saliency.input_gradient(net, rule)

    def g(inputs: dict[str, jax.Array], params: PyTree) -> dict[str, jax.Array]:
        given = inputs[CHOSEN.name]
        largest = jnp.argmax(net(inputs[x], params).reshape(len(given), -1), axis=1).astype(given.dtype)
        found = run(inputs[x], params, jnp.where(given < 0, largest, given))
        return {f"d{x}": found.map, "output": found.output, "value": found.value}

    return g


@dataclass(frozen=True)
class Chosen(jp.Cost):
    """C_n = y_nk: its delta is 1 at k, so that every error of the pass is an error of that output."""

    def __call__(self, y: Float[Array, "N ..."], targets: Int[Array, " N"]) -> Float[Array, " N"]:
        """Return y_nk of each row."""
        return jnp.take_along_axis(y.reshape(len(y), -1), targets[:, None], axis=1)[:, 0]

    def delta(self, y: Float[Array, "N ..."], targets: Int[Array, " N"]) -> Float[Array, "N ..."]:
        """Return 1 at k and 0 elsewhere."""
        return jax.nn.one_hot(targets, math.prod(y.shape[1:]), dtype=y.dtype).reshape(y.shape)


def layers_of(net: jp.Layer, x: str, rule: jp.rules.Rule | None = None) -> Function:
    """Return g(inputs, θ): what `jp.manual.trace` writes down, rows first: `[N, L, ...]` inside a Repeat."""
    trace = jp.manual.trace(net, Chosen(), rule=rule)

    def g(inputs: dict[str, jax.Array], params: PyTree) -> dict[str, jax.Array]:
        tape, found = trace(inputs[x], params, inputs[CHOSEN.name]), {}
        for leaf in leaves(net):
            record = tape[leaf.path]
            for name, array in zip(_names(leaf.path), (record.y, record.dy), strict=True):
                found[name] = jnp.moveaxis(array, leaf.repeats, 0)
        return found

    return g


def _names(path: str) -> tuple[str, str]:
    return (f"{path}.y", f"{path}.dy") if path else ("y", "dy")


def _filled(x: np.ndarray, baseline: float) -> np.ndarray:
    with np.errstate(over="ignore"):
        base = np.full_like(x, baseline)
    if not np.isfinite(base).all():
        raise ServeError(400, f"parameter 'baseline' is {baseline:g}, which does not fit into {x.dtype}")
    return base


def _path(x: np.ndarray, base: np.ndarray | None, alphas: np.ndarray) -> np.ndarray:
    """Return b + α (x − b) for each α, one behind the other `[len(alphas)·rows, ...]`; x each time where there is no
    b."""
    if base is None:
        return np.tile(x, (len(alphas), *[1] * (x.ndim - 1)))
    moved = base + alphas.reshape(-1, *[1] * x.ndim) * (x.astype(np.float64) - base)
    return moved.astype(x.dtype).reshape(-1, *x.shape[1:])


def _parameters(given: dict[str, Any]) -> Parameters:
    if given.get("method", "plain") != "plain" and given.get("rule") is not None:
        raise ServeError(400, 'parameter \'rule\' goes with "method": "plain": only the true gradient adds up')
    if given.get("method", "plain") == "plain" and (only := {"steps", "baseline"} & given.keys()):
        raise ServeError(400, f'parameter \'{min(only)}\' goes with "method": "integrated"')
    try:
        return msgspec.convert(given, Parameters)
    except msgspec.ValidationError as error:
        known = ", ".join(Parameters.__struct_fields__)
        text = f"{located(error, '.parameters')}; there are {known}, and method is plain or integrated"
        text += ", rule guided, deconvnet or straight_through" if "rule" in given else ""
        raise ServeError(400, text) from None
