"""Flax checkpoints as parameters of ours: for each of our layers, the Flax module whose arrays are exactly its own.

No array is left out in silence, and no module is chosen by its name alone: two modules of the same shapes are told
apart by numbers (`Dense_0`, `Dense_1`), or by the user. The key bias of an attention has no place here, for it changes
no y.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx, serialization
from flax.core import FrozenDict
from flax.core.meta import AxisMetadata
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path, join
from jaxprop.errors import ModelError
from jaxprop.flax.layers import COUNTERPARTS, Tree
from jaxprop.layers import Affine
from jaxprop.layers.layer import Layer
from jaxprop.network import Chain, Combinator, Inner, Leaf, Repeat, Shared, leaves

Ties = dict[str, tuple[str, bool]]  # a tied array's path: its owner's, and whether it is transposed
Source = Tree | FrozenDict | nnx.State | nnx.Module | linen.Module | str | Path | bytes


class Match(NamedTuple):
    """The module that a layer of ours takes."""

    module: str
    arrays: Tree  # path of ours: array
    rivals: set[str]  # other modules that would have fitted


def import_flax(source: Source, net: Layer, inputs: PyTree, names: dict[str, str] | None = None) -> PyTree:
    """Return params of `net` with the arrays of a Flax checkpoint.

    Each of our layers, in order, takes the first Flax module, in number order ("Dense_2" before "Dense_10"), whose
    arrays are exactly its own. A `Repeat` takes stacked arrays (of `linen.scan`), or one module for each of its blocks,
    which it stacks. dtypes are the checkpoint's. Collections other than "params" are left out:
    `jp.freeze_statistics` makes new statistics for a BatchNorm. An `Affine` does not take a module with statistics.

    Args:
        source: variables (a dict, `FrozenDict` or `nnx.State`), an nnx module, a bound linen module, a msgpack file or
            its bytes, an Orbax folder.
        net: the network that takes them.
        inputs: an example x `[N, ...]`, for the shapes.
        names: {our layer's path: Flax's module path}, such as {"2": "Dense_1"}. Blocks that a `Repeat` stacks have
            numbers: {"1.0.2": "blocks.0.up"} is layer 2 of the first.

    Raises:
        ModelError: none fits, and the text names the layer; some are left over, and it names the arrays; or modules of
            the same shapes have names without numbers ("up", "down"): which is called first only `names` can say.

    >>> import jaxprop as jp
    >>> from flax import linen
    >>> variables = linen.Dense(2).init(jax.random.key(0), jnp.ones((1, 3)))
    >>> import_flax(variables, jp.Linear(2), inputs=jnp.ones((1, 3))).W.shape
    (3, 2)
    """
    tree = _read(source)
    statistics = {path for path, found in _modules(tree.pop("batch_stats", {}), "") if "mean" in found}
    tree = tree.get("params", tree)
    try:
        return _imported(tree, net, inputs, names or {}, statistics)
    except ModelError as refused:
        one_by_one = _unrolled(net)
        if one_by_one == net:
            raise
        try:
            return _stacked(net, _imported(tree, one_by_one, inputs, names or {}, statistics))
        except ModelError as error:
            raise (error if names else refused) from None


def _unrolled(net: Layer) -> Layer:
    """The same network with a chain of equal blocks for each `Repeat`."""
    if not isinstance(net, Combinator):
        return net
    children = [_unrolled(child) for child in net.children()]
    return Chain(*children * net.times) if isinstance(net, Repeat) else net.with_children(children)


def _stacked(net: Layer, params: Any) -> Any:
    """θ of `net`, of that of `_unrolled(net)`."""
    if isinstance(net, Repeat):
        return Inner(jax.tree.map(lambda *arrays: jnp.stack(arrays), *(_stacked(net.inner, p) for p in params)))
    if not isinstance(net, Combinator):
        return params
    parts = [_stacked(child, p) for child, p in zip(net.children(), params, strict=True)]
    return Inner(*parts) if isinstance(params, Inner) else tuple(parts)


def _imported(tree: Tree, net: Layer, inputs: PyTree, names: dict[str, str], statistics: set[str]) -> PyTree:
    """θ of a network whose layers are modules of the tree, one for one."""
    expected = jax.eval_shape(net.init, jax.random.key(0), inputs)
    ours = [leaf for leaf in leaves(net, expected) if jax.tree.leaves(leaf.params)]
    ties = _ties(ours)
    matches = _matches(net, ours, tree, names, set(ties))
    taken = {match.module for match in matches.values()}
    left = {path: array for path, array in by_path(tree).items() if not _inside(path, taken)}
    if left:
        raise ModelError(
            f"import_flax: {net!r} has no place for {_shapes(left)}; is it the same network? Add the layers that hold "
            "them, or take them out of the checkpoint"
        )
    _check_statistics(ours, matches, statistics)
    _check_order({path: match for path, match in matches.items() if path not in names})
    found = {path: array for match in matches.values() for path, array in match.arrays.items()}
    _check_copies(ties, found)
    return jax.tree.unflatten(jax.tree.structure(expected), [jnp.asarray(found[path]) for path in by_path(expected)])


def _matches(net: Layer, ours: list[Leaf], tree: Tree, names: dict[str, str], tied: set[str]) -> dict[str, Match]:
    """A module for every layer of ours that has parameters, by the layer's path."""
    modules, matches, taken = dict(_modules(tree, "")), {}, set(names.values())
    unknown = set(names) - {leaf.path for leaf in ours}
    if unknown:
        raise ModelError(f"import_flax: names: no layer with parameters at {sorted(unknown)[0]!r} of {net!r}")
    for path, layer, spec, _ in ours:
        free = [name for name in modules if not _inside(name, taken)]
        candidates = [names[path]] if path in names else free
        fits = {name: _fitting(layer, modules.get(name), spec, path, tied) for name in candidates}
        fits = {name: arrays for name, arrays in fits.items() if arrays is not None}
        if not fits:
            shapes = _shapes(spec)
            where = f"{names[path]!r} does not" if path in names else "no module of the checkpoint does"
            raise ModelError(
                f"import_flax: layer {path or 'at the top'} ({layer!r}) needs exactly {shapes}; {where} fit: found "
                f"{_shapes(tree)}. Give the layer the settings of the Flax module (features, bias, scale), or say with "
                "names= which module it takes"
            )
        module = next(iter(fits))
        taken.add(module)
        matches[path] = Match(module, fits[module], set(fits) - {module})
    return matches


def _check_statistics(ours: list[Leaf], matches: dict[str, Match], statistics: set[str]) -> None:
    """Refuse scale and bias alone for a frozen norm: what they scale was normalised by statistics left out here."""
    for path, layer, _, _ in ours:
        module = matches[path].module
        if isinstance(layer, Affine) and module in statistics:
            raise ModelError(
                f"import_flax: layer {path or 'at the top'} ({layer!r}) is a BatchNorm's scale and shift made one with "
                f"its statistics, and {module!r} has statistics of its own, which are left out; import into the "
                "network with BatchNorm, then jp.freeze_statistics, or call Flax's with jp.from_flax"
            )


def _check_order(matches: dict[str, Match]) -> None:
    """Refuse two modules that could be swapped where no number in their names says which is called first."""
    places = {match.module: path for path, match in matches.items()}
    for path, match in matches.items():
        for rival in match.rivals & set(places):
            if not _numbered(match.module, rival):
                example = {path: match.module, places[rival]: rival}
                raise ModelError(
                    f"import_flax: found modules {match.module!r} and {rival!r} with arrays of the same shapes for the "
                    f"layers {path} and {places[rival]}, expected names with numbers, such as Dense_0 and Dense_1, to "
                    f"tell which is called first; say which is which: names={example}, or the other way round"
                )


def _numbered(one: str, other: str) -> bool:
    """Whether two paths part at a number: Dense_0 and Dense_1, 0 and 1, blocks_0.up and blocks_1.up."""
    parts = zip(one.split("."), other.split("."), strict=False)
    first = next(((a, b) for a, b in parts if a != b), ("", ""))
    stems = [re.fullmatch(r"(|.*_)\d+", part) for part in first]
    return all(stems) and len({stem[1] for stem in stems if stem}) == 1


def _ties(ours: list[Leaf]) -> Ties:
    """The tied arrays of all networks that share some."""
    shared = {path: around for leaf in ours for path, around in leaf.inside if isinstance(around, Shared)}
    found: Ties = {}
    for path, around in shared.items():
        inner = join(path, "inner")
        found |= {join(inner, user): (join(inner, owner), transpose) for owner, user, transpose in around.ties}
    return found


def _check_copies(ties: Ties, found: Tree) -> None:
    """A tied array has no place of its own: its copy in the checkpoint must be its owner's."""
    for user, (owner, transpose) in ties.items():
        if user in found and not np.array_equal(np.asarray(found[user]).T if transpose else found[user], found[owner]):
            raise ModelError(
                f"import_flax: {user} is tied to {owner}, but their arrays in the checkpoint differ, expected equal "
                f"ones{' (transposed)' if transpose else ''}; import into the network without the tie"
            )


def _read(source: Any) -> Tree:
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
    if isinstance(source, nnx.Module):
        source = nnx.state(source)
    if isinstance(source, nnx.State):
        source = _of_state(source)
    if isinstance(source, linen.Module):
        if source.scope is None:
            raise ModelError(
                f"import_flax: found {type(source).__name__}, a linen module, which holds no arrays, expected its "
                "variables, what its init made; or module.bind(variables)"
            )
        source = source.variables
    if not isinstance(source, Mapping):
        raise ModelError(
            f"import_flax: found {type(source).__name__}, expected a dict of variables, a module that holds them, an "
            "nnx.State, a file or bytes"
        )
    return _plain(source)


def _of_state(state: nnx.State) -> Tree:
    """Parameters, and statistics as linen keeps them: the rest (counts of keys) is left out where leaves are marked."""
    variables = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    if not any(isinstance(leaf, nnx.Variable) for leaf in variables):
        return nnx.to_pure_dict(state)
    statistics = nnx.to_pure_dict(nnx.filter_state(state, nnx.BatchStat))
    return nnx.to_pure_dict(nnx.filter_state(state, nnx.Param)) | ({"batch_stats": statistics} if statistics else {})


def _plain(tree: Any) -> Any:
    """Plain dicts, whose names are all text, and arrays without linen's boxes of metadata."""
    if isinstance(tree, Mapping):
        return {str(name): _plain(inner) for name, inner in tree.items()}
    return tree.unbox() if isinstance(tree, AxisMetadata) else tree


def _orbax(folder: Path) -> Tree:
    """The arrays of an Orbax checkpoint on the host, on whatever devices they were saved."""
    import orbax.checkpoint as ocp  # slow to import

    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            saved = checkpointer.metadata(folder).item_metadata.tree
            how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
            return _plain(_without_value(checkpointer.restore(folder, restore_args=how)))
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


def _modules(tree: Tree, path: str) -> Iterator[tuple[str, Tree]]:
    """Every module below a tree with its path, outer ones first, names in natural order."""
    yield path, tree
    for name in sorted(tree, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", str(name))]):
        if isinstance(tree[name], dict):
            yield from _modules(tree[name], join(path, name))


def _inside(path: str, taken: set[str]) -> bool:
    return any(not name or path == name or path.startswith(name + ".") for name in taken)


def _fitting(layer: Layer, module: Any, spec: Any, path: str, tied: set[str]) -> Tree | None:
    """Our arrays by path made of a Flax module's, or None where those are not exactly ours."""
    counterpart = COUNTERPARTS.get(type(layer))
    if module is None or counterpart is None:
        return None
    try:
        inner = counterpart.opened(module)
        linens = counterpart.read(inner)
        found = counterpart.to_ours(layer, linens)
        fields = zip(found._fields, found, spec, strict=True)
        # spec has None for what the layer lacks, and for what is tied: there a copy may be
        kept = type(spec)(*(a if wanted is not None or join(path, f) in tied else None for f, a, wanted in fields))
        made = type(spec)(*(None if wanted is None else a for a, wanted in zip(kept, spec, strict=True)))
        places = set(by_path(counterpart.to_flax(layer, kept)))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if jax.tree.map(np.shape, made) != jax.tree.map(np.shape, spec) or not set(by_path(linens)) <= places:
        return None
    if len(by_path(module)) != len(by_path(inner)):  # it holds more than the layer's arrays
        return None
    return {join(path, field): array for field, array in by_path(kept).items()}


def _shapes(tree: PyTree) -> str:
    found = [f"{path} {list(np.shape(leaf))}" for path, leaf in by_path(tree).items()]
    return ", ".join(found[:12]) + (", …" if len(found) > 12 else "")
