"""Networks of ours as linen modules, and Flax checkpoints as parameters of ours.

`to_flax` goes down the description: a leaf becomes its counterpart (`flax_layers.py`), a combinator one of the modules
below. `import_flax` goes the other way: it finds, for each of our layers with parameters, the Flax module whose arrays
fit.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, serialization

from jaxprop import layers, network
from jaxprop.errors import JaxpropError, ModelError
from jaxprop.interop.flax_layers import COUNTERPARTS
from jaxprop.layers.layer import Layer
from jaxprop.network import Combinator, by_path, join

Part = Any  # a linen module, or a function: both are called


class Chain(linen.Module):
    """One after another."""

    layers: tuple[Part, ...]

    def __call__(self, x: Any) -> Any:
        """f_L(… f_1(x))."""
        for layer in self.layers:
            x = layer(x)
        return x


class Residual(linen.Module):
    """x + inner(x)."""

    inner: Part

    def __call__(self, x: Any) -> Any:
        """x + inner(x)."""
        return x + self.inner(x)


class Parallel(linen.Module):
    """Branches on one x, joined."""

    branches: tuple[Part, ...]
    join: str

    def __call__(self, x: Any) -> Any:
        """The joined branches."""
        ys = [branch(x) for branch in self.branches]
        if self.join == "concatenate":
            return jnp.concatenate(ys, axis=-1)
        y = ys[0]
        for other in ys[1:]:
            y = y + other if self.join == "sum" else y * other
        return y


class Repeat(linen.Module):
    """inner, `times` times, its params stacked: linen's lifted scan."""

    inner: Part
    times: int

    def __call__(self, x: Any) -> Any:
        """The scan."""

        def block(inner: Any, x: Any, _: None) -> tuple[Any, None]:
            return inner(x), None

        rngs: Any = {"params": True, "dropout": True}
        scan = linen.scan(block, variable_axes={"params": 0}, split_rngs=rngs, length=self.times)
        return scan(self.inner, x, None)[0]


class Remat(linen.Module):
    """inner, recomputed in the backward pass."""

    inner: Part

    def __call__(self, x: Any) -> Any:
        """inner(x)."""
        return linen.remat(lambda inner, x: inner(x))(self.inner, x)


class Drop(linen.Module):
    """Dropout whenever there is an rng called "dropout", as ours is whenever there is one."""

    rate: float

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """x, thinned."""
        return linen.Dropout(self.rate, deterministic=not self.has_rng("dropout"))(x)


def to_flax(net: Layer, params: Any) -> tuple[linen.Module, dict[str, Any]]:
    """Return (module, variables): a linen module that is the same function as `net`, and its variables.

    `module.apply(variables, x)` is net(x, params), up to rounding. Tied weights are untied (linen has no such module):
    each place gets its own copy. Raises JaxpropError for a layer that linen has no counterpart of.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2)), jnp.ones((1, 3))
    >>> params = net.init(jax.random.key(0), x)
    >>> module, variables = to_flax(net, params)
    >>> bool(jnp.allclose(module.apply(variables, x), net(x, params)))
    True
    """
    part, tree = _to_flax(net, params, "")
    if not isinstance(part, linen.Module):
        part, tree = Chain((part,)), {}
    return part, {"params": tree}


def _to_flax(layer: Layer, params: Any, path: str) -> tuple[Part, dict[str, Any]]:
    """The counterpart of a layer, and its params."""
    if isinstance(layer, network.Shared):
        return _to_flax(layer.inner, layer._filled(params, path), join(path, "inner"))
    if isinstance(layer, Combinator):
        names = zip(layer.children(), params, layer.names(), strict=True)
        parts = [_to_flax(child, p, join(path, name)) for child, p, name in names]
        return _around(layer, [part for part, _ in parts]), _tree(layer, [tree for _, tree in parts])
    if type(layer) in COUNTERPARTS:
        counterpart = COUNTERPARTS[type(layer)]
        dtype = jnp.result_type(*jax.tree.leaves(params)) if jax.tree.leaves(params) else jnp.float32
        return counterpart.module(layer, dtype), counterpart.to_flax(layer, params)
    if isinstance(layer, layers.Dropout):
        return Drop(layer.rate), {}
    if jax.tree.leaves(params) or layer.mixes_examples:
        raise JaxpropError(f"to_flax: Flax has no counterpart of {layer!r} at {path or 'the top'}")
    return (lambda x: layer(x, params)), {}


def _around(layer: Combinator, parts: list[Part]) -> linen.Module:
    """The linen module of a combinator."""
    if isinstance(layer, network.Chain):
        return Chain(tuple(parts))
    if isinstance(layer, network.Parallel):
        return Parallel(tuple(parts), layer.join)
    if isinstance(layer, network.Repeat):
        return Repeat(parts[0], layer.times)
    if isinstance(layer, network.Residual | network.Remat):
        return (Residual if isinstance(layer, network.Residual) else Remat)(parts[0])
    raise JaxpropError(f"to_flax: Flax has no counterpart of {layer!r}")


def _tree(layer: Combinator, trees: list[dict[str, Any]]) -> dict[str, Any]:
    """Params under the names that linen gives to children; those without any are left out."""
    if isinstance(layer, network.Chain | network.Parallel):
        field = "layers" if isinstance(layer, network.Chain) else "branches"
        return {f"{field}_{i}": tree for i, tree in enumerate(trees) if tree}
    return {"inner": trees[0]} if trees[0] else {}


def import_flax(source: Any, net: Layer, inputs: Any, names: dict[str, str] | None = None) -> Any:
    """Return params of `net` with the arrays of a Flax checkpoint.

    source: a dict of variables (linen's, or nnx's parameters), a msgpack file or its bytes, an Orbax folder.
    inputs: an example x, for the shapes.    names: {our layer's path: Flax's module path}, such as {"2": "Dense_1"},
    where order and shapes do not say enough. Each of our layers, in order, takes the first Flax module, in order
    ("Dense_2" before "Dense_10"), whose arrays have its shapes. dtypes are the checkpoint's. Collections other than
    "params" are left out: `jp.freeze_statistics` makes new statistics for a BatchNorm. Raises ModelError, naming the
    layer, where none fits, and naming the modules that are left over.

    >>> import jaxprop as jp
    >>> variables = linen.Dense(2).init(jax.random.key(0), jnp.ones((1, 3)))
    >>> import_flax(variables, jp.Linear(2), inputs=jnp.ones((1, 3))).W.shape
    (3, 2)
    """
    tree = _read(source)
    tree = tree.get("params", tree)
    expected = jax.eval_shape(net.init, jax.random.key(0), inputs)
    modules, taken, found = dict(_modules(tree, "")), set(), {}
    unknown = set(names or {}) - {path for path, _, _ in _leaves(net, expected, "")}
    if unknown:
        raise ModelError(f"import_flax: names: no layer with parameters at {sorted(unknown)[0]!r} of {net!r}")
    for path, layer, spec in _leaves(net, expected, ""):
        chosen = (names or {}).get(path)
        candidates = [chosen] if chosen else [name for name in modules if not _inside(name, taken)]
        for name in candidates:
            made = _fitting(layer, modules.get(name), spec)
            if made is not None:
                taken.add(name)
                found |= {join(path, field): array for field, array in by_path(made).items()}
                break
        else:
            shapes = {field: list(leaf.shape) for field, leaf in by_path(spec).items()}
            where = f"{chosen!r} does not" if chosen else "no module of the checkpoint does"
            raise ModelError(f"import_flax: layer {path} ({layer!r}) needs {shapes}; {where} fit: {_shapes(tree)}")
    left = [path for path in by_path(tree) if not _inside(path, taken)]
    if left:
        raise ModelError(f"import_flax: {net!r} has no place for {', '.join(left[:5])}; is it the same network?")
    return jax.tree.unflatten(jax.tree.structure(expected), [jnp.asarray(found[path]) for path in by_path(expected)])


def _read(source: Any) -> dict[str, Any]:
    """Variables out of whatever holds them; neither msgpack nor Orbax runs code."""
    if isinstance(source, str | Path) and Path(source).is_dir():
        return _orbax(Path(source).absolute())
    if isinstance(source, str | Path):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise ModelError(f"import_flax: {source}: cannot be read: {error.strerror or error}") from None
    if isinstance(source, bytes):
        try:
            source = serialization.msgpack_restore(source)
        except Exception as error:  # msgpack has many
            raise ModelError(f"import_flax: not a msgpack checkpoint of Flax ({type(error).__name__})") from None
    if not isinstance(source, dict):
        raise ModelError(f"import_flax: found {type(source).__name__}, expected a dict of variables, a file or bytes")
    return source


def _orbax(folder: Path) -> dict[str, Any]:
    """The arrays of an Orbax checkpoint on the host, on whatever devices they were saved."""
    import orbax.checkpoint as ocp  # slow to import

    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            saved = checkpointer.metadata(folder).item_metadata.tree
            how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
            return _without_value(checkpointer.restore(folder, restore_args=how))
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(
                f"import_flax: {folder}: not an Orbax checkpoint ({str(error).splitlines()[0][:200]}); of a "
                "CheckpointManager give the folder of one step's item, such as run/100/default"
            ) from None


def _without_value(tree: Any) -> Any:
    """nnx saves every array as {"value": array}."""
    if not isinstance(tree, dict):
        return tree
    return _without_value(tree["value"]) if set(tree) == {"value"} else {k: _without_value(v) for k, v in tree.items()}


def _modules(tree: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every module below a tree with its path, outer ones first, names in natural order."""
    yield path, tree
    for name in sorted(tree, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", str(name))]):
        if isinstance(tree[name], dict):
            yield from _modules(tree[name], join(path, name))


def _inside(path: str, taken: set[str]) -> bool:
    return any(not name or path == name or path.startswith(name + ".") for name in taken)


def _leaves(layer: Layer, params: Any, path: str) -> Iterator[tuple[str, Layer, Any]]:
    """Our layers that have parameters, in order."""
    if isinstance(layer, Combinator):
        for child, p, name in zip(layer.children(), params, layer.names(), strict=True):
            yield from _leaves(child, p, join(path, name))
    elif jax.tree.leaves(params):
        yield path, layer, params


def _fitting(layer: Layer, module: Any, spec: Any) -> Any:
    """Our params made of a Flax module's, or None where they are not of these shapes."""
    counterpart = COUNTERPARTS.get(type(layer))
    if module is None or counterpart is None:
        return None
    try:
        arrays = zip(spec, counterpart.to_ours(layer, module), strict=True)
        # where spec has None, the array is tied: it is its owner's, and a copy has no place
        made = type(spec)(*(None if expected is None else array for expected, array in arrays))
        return made if jax.tree.map(np.shape, made) == jax.tree.map(np.shape, spec) else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _shapes(tree: Any) -> str:
    found = [f"{path} {list(np.shape(leaf))}" for path, leaf in by_path(tree).items()]
    return ", ".join(found[:12]) + (", …" if len(found) > 12 else "")
