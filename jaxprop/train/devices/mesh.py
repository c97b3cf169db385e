"""Which devices a run computes on, and what lies on which of them.

    data     devices that each take some of a batch's rows, and hold θ whole
    fsdp     devices that each take some of a batch's rows, and hold some of θ and of the optimizer's state
    model    devices that share the work on the same rows, each with some of the features, heads or vocabulary

`mesh="data=8"` names the axes and how many devices each has; −1 stands for all that are left. A step is one program:
XLA divides it by where rows and θ lie (`jit` with shardings), and sums over all rows are sums over all devices.
"""

import functools
import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree, Shaped

from jaxprop.arrays.paths import place
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Conv
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves
from jaxprop.train.devices.blocks import gathering, paths_in_blocks
from jaxprop.train.devices.layouts import DATA, FSDP, MODEL, Layout, layout
from jaxprop.train.optimizers import point

AXES = (DATA, FSDP, MODEL)


@dataclass(frozen=True)
class Devices:
    """The devices of a run, as a mesh whose axes say what they are for: `data`, `fsdp` and `model`.

    mesh: the devices. net: the network, whose structure says what `model` divides, or any f(x, θ). `Devices.of` makes
    one, and checks what is asked for. Under `jit` (`jp.train.step` in a loop of your own) it is enough to place what
    goes in:

    >>> from jaxprop import Linear
    >>> net, x = Linear(3), np.ones((8, 2), np.float32)
    >>> devices = Devices.of("data=-1", net)
    >>> params = devices.place(net.init(jax.random.key(0), x))
    >>> jax.jit(net)(devices.rows(x), params).shape
    (8, 3)
    """

    mesh: Mesh
    net: Any = None

    @classmethod
    def of(cls, given: "str | Mesh | Devices", net: Any = None, what: str = "mesh") -> "Devices":
        """Return the devices that a text such as "data=4,model=2" or a `jax.sharding.Mesh` asks for.

        Args:
            given: axes among data, fsdp and model with how many devices each has, −1 for all that are left; together
                they are all devices that there are. A mesh may have fewer.
            net: the network whose parameters are placed.
            what: what it is called in errors.

        Raises:
            JaxpropError: an axis is unknown or comes twice, there are not as many devices, or `model` is to divide a
                plain function, or a network with a grouped convolution.

        >>> Devices.of("data=3,banana=2")
        Traceback (most recent call last):
            ...
        jaxprop.errors.JaxpropError: unknown axis of mesh 'banana'; known: data, fsdp, model
        """
        if isinstance(given, Devices):
            mesh = given.mesh
        elif isinstance(given, Mesh):
            for name in given.axis_names:
                pick(str(name), AXES, f"axis of {what}")
            mesh = Mesh(given.devices, given.axis_names, axis_types=(AxisType.Auto,) * given.devices.ndim)
        else:
            sizes = _sizes(given, what)
            mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))
        if mesh.shape.get(MODEL, 1) > 1:
            _check_model(net, what)
        return cls(mesh, net)

    @property
    def sizes(self) -> dict[str, int]:
        """How many devices each axis has."""
        return {str(name): size for name, size in self.mesh.shape.items()}

    @property
    def shards(self) -> int:
        """In how many parts the rows of a batch are divided."""
        return math.prod(self.sizes.get(axis, 1) for axis in (DATA, FSDP))

    def place(self, tree: PyTree) -> PyTree:
        """Return θ, or a state with `.params` and what belongs to them, with each array where its layout says.

        Arrays that belong to no parameter, and scalars, lie on every device; what is no array stays as it is.
        """
        return jax.tree.map(lambda a, s: _put(a, s) if hasattr(a, "shape") else a, tree, self._shardings(tree))

    def rows(self, rows: PyTree[Shaped[Any, "N ..."]]) -> PyTree[Shaped[Array, "N ..."]]:
        """Return rows, spread over the devices; where N does not divide evenly, each device has all of them."""
        return jax.tree.map(lambda a: _put(a, self._of_rows(np.shape(a), 0)), rows)

    def place_batches(self, batches: PyTree[Shaped[Any, "steps B ..."]]) -> PyTree[Shaped[Array, "steps B ..."]]:
        """Return batches with a leading axis of steps, the rows of each spread over the devices as `rows` does."""
        return jax.tree.map(lambda a: _put(a, self._of_rows(np.shape(a), 1)), batches)

    def own(self, rows: int) -> Int[np.ndarray, " K"]:
        """Return which rows of a batch this process reads: those of its devices, in their order."""
        parts = self._of_rows((rows,), 0).addressable_devices_indices_map((rows,)).values()
        return np.unique(np.concatenate([np.arange(rows)[index] for index in parts]))  # pyright: ignore[reportOptionalIterable]

    def join_batches(self, own: PyTree[Shaped[np.ndarray, "steps K ..."]], rows: int) -> PyTree[Array]:
        """Return batches `[steps, rows, ...]` of what each process read of them, as `own(rows)` says, spread out."""

        def join(array: np.ndarray) -> Array:
            shape = (array.shape[0], rows, *array.shape[2:])
            return jax.make_array_from_process_local_data(self._of_rows(shape, 1), array, shape)

        return jax.tree.map(join, own)

    def everywhere(self, tree: PyTree) -> PyTree:
        """Return arrays that lie whole on every device."""
        return jax.tree.map(lambda a: _put(a, NamedSharding(self.mesh, PartitionSpec())), tree)

    def kept(self, tree: PyTree) -> PyTree:
        """Inside a compiled function, let a tree lie where `place` puts it."""
        return jax.tree.map(jax.lax.with_sharding_constraint, tree, self._shardings(tree))

    def spread(self, rows: PyTree[Shaped[Array, "N ..."]]) -> PyTree[Shaped[Array, "N ..."]]:
        """Inside a compiled function, let rows lie where `rows` puts them."""
        return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, self._of_rows(a.shape, 0)), rows)

    def gathered(self, params: PyTree, blocks: bool = True) -> PyTree:
        """Inside a compiled function, return θ as a step computes with it: whole but for what `model` divides.

        blocks: whether also that of the blocks of a `Repeat`, which `gathering` leaves to the moment of their use.
        """
        if FSDP not in self.sizes:
            return params
        whole = layout(self.net, params, self.sizes | {FSDP: 1})
        left = () if blocks or not isinstance(self.net, Layer) else paths_in_blocks(self.net, params)
        axes = whole.axes | {path: self.layout(params).axes[path] for path in left}
        shardings = self._on_mesh(whole._replace(axes=axes).specs(params))
        return jax.tree.map(jax.lax.with_sharding_constraint, params, shardings)

    def gathering(self, net: Any) -> Any:
        """Return a network that gathers θ of the blocks of a `Repeat` one by one, as it comes to them."""
        if FSDP not in self.sizes or not isinstance(net, Layer):
            return net
        return gathering(net, lambda block: Devices(self.mesh, block).gathered)

    def summed(self, grads: PyTree) -> PyTree:
        """Inside a compiled function, return ∂C/∂θ, summed over all rows, where `place` puts θ.

        First whole, then divided: XLA ends the process over a grouped convolution whose weight gradient is to come out
        divided, and a sum of which each device keeps a part is one reduce-scatter where XLA knows it, on GPU and TPU.
        """
        return self.kept(self.gathered(grads, blocks=False))

    def warn(self, params: PyTree, what: str) -> None:
        """Say what of θ lies whole on every device, though its axis of the mesh was to divide it."""
        found = self.layout(params)
        for axis in (MODEL, FSDP):
            size, lie = self.sizes.get(axis, 1), [path for path, by in found.whole.items() if by == axis]
            if size > 1 and not found.divided(axis):
                said = f"nothing of this network is divided by {axis}: its {size} devices do the same work"
            elif size > 1 and lie:
                arrays = ", ".join(f"{path} {list(found.shapes[path])}" for path in lie[:4])
                more = f" and {len(lie) - 4} more" if len(lie) > 4 else ""
                said = f"{arrays}{more} cannot be divided evenly by {axis}={size}: every device holds all of it"
            else:
                continue
            warnings.warn(f"{what}: {said}", stacklevel=4)

    def layout(self, params: PyTree) -> Layout:
        """Return which axis of which array of θ lies on which axis of the mesh."""
        return layout(self.net, params, self.sizes)

    def _shardings(self, tree: PyTree) -> PyTree[NamedSharding]:
        return self._on_mesh(self.layout(point(getattr(tree, "params", tree))).specs(tree))

    def _on_mesh(self, specs: PyTree[PartitionSpec]) -> PyTree[NamedSharding]:
        return jax.tree.map(functools.partial(NamedSharding, self.mesh), specs)

    def _of_rows(self, shape: tuple[int, ...], axis: int) -> NamedSharding:
        axes = tuple(name for name in (DATA, FSDP) if name in self.sizes)
        divides = axes and shape[axis] % self.shards == 0
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, axes) if divides else PartitionSpec())


def read_mesh(given: Any, net: Any = None, batch_size: int | None = None) -> Devices | None:
    """Return the devices that `fit` was asked for; None is one device, in a job of several processes all of them.

    >>> read_mesh(None) is None
    True
    """
    if given is None and jax.process_count() == 1:
        return None
    given = f"{DATA}={jax.device_count()}" if given is None else given
    devices = Devices.of(given, net, "fit: mesh")
    if batch_size is not None and batch_size % devices.shards:
        raise JaxpropError(
            f"fit: batch_size={batch_size} cannot be divided among the {devices.shards} devices that take rows in "
            f"mesh={_written(devices)!r}: make it a multiple of {devices.shards}"
        )
    return devices


def refuse_spread(given: Any, name: str) -> None:
    """Raise JaxpropError where arrays lie on several devices, and nothing says that `fit` is to use them."""
    for leaf in jax.tree.leaves(given, is_leaf=lambda node: hasattr(node, "__next__")):  # an iterator is no tree
        many = len(leaf.sharding.device_set) if isinstance(leaf, jax.Array) else 1
        if many > 1:
            raise JaxpropError(
                f"fit: {name} lies on {many} devices, and without mesh= training uses one: say "
                f'mesh="{DATA}={many}" to train on them, or bring it to the host with jax.device_get({name})'
            )


def devices_of(params: PyTree, net: Any) -> Devices | None:
    """Return the devices that θ lies on as `Devices.place` put it there; None for one device, or another mesh."""
    for leaf in jax.tree.leaves(params):
        found = leaf.sharding if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) else None
        if isinstance(found, NamedSharding) and found.mesh.size > 1 and set(found.mesh.axis_names) <= set(AXES):
            return Devices(found.mesh, net) if isinstance(found.mesh, Mesh) else None
    return None


def _written(devices: Devices) -> str:
    return ",".join(f"{name}={size}" for name, size in devices.sizes.items())


def _sizes(given: Any, what: str) -> dict[str, int]:
    """The axes of a text, in its order."""
    parts = re.split(r"\s*,\s*", given.strip().replace("−", "-")) if isinstance(given, str) else []
    found = [re.fullmatch(r"(\w+)\s*=\s*(-1|[1-9]\d*)", part) for part in parts]
    if not found or not all(found):
        raise JaxpropError(
            f'{what} must be such as "data=8" or "data=4,model=2" (each axis with how many devices, -1 for all that '
            f"are left), or a jax.sharding.Mesh, found {given!r}"
        )
    sizes = {}
    for match in found:
        name, size = match.groups()  # pyright: ignore[reportOptionalMemberAccess]
        if pick(name, AXES, f"axis of {what}") in sizes:
            raise JaxpropError(f"{what}: found {name} twice in {given!r}: name each axis once")
        sizes[name] = int(size)
    there, asked = jax.device_count(), math.prod(size for size in sizes.values() if size > 0)
    left = [name for name, size in sizes.items() if size < 0]
    if len(left) > 1:
        raise JaxpropError(f"{what}: found -1 twice in {given!r}: one axis alone can take all devices that are left")
    if asked > there or (there % asked if left else there != asked):
        several = "is 1 device" if there == 1 else f"are {there} devices"
        hint = (
            "on a CPU, JAX_NUM_CPU_DEVICES=n in the environment makes n devices of it"
            if asked > there
            else "write -1 for one of the axes, or give a jax.sharding.Mesh of the devices that you want"
        )
        raise JaxpropError(
            f"{what}: {given!r} asks for {asked}{' × some' if left else ''}, and there {several}: {hint}"
        )
    return sizes | {name: there // asked for name in left}


def _check_model(net: Any, what: str) -> None:
    """Raise JaxpropError for what `model` cannot divide."""
    if isinstance(net, Layer):
        for leaf in leaves(net):
            if isinstance(leaf.layer, Conv) and leaf.layer.groups > 1:
                raise JaxpropError(
                    f"{what}: found {MODEL} and {place(leaf.layer, leaf.path)}: where rows lie on some of the axes "
                    "only, XLA computes the weight gradient of a grouped convolution wrongly; use "
                    f"{DATA} and {FSDP} alone"
                )
    elif net is not None:
        raise JaxpropError(
            f"{what}: {MODEL} divides the layers of a network, and a plain function f(x, params) has none to see: use "
            f"{DATA} and {FSDP}"
        )


def _put(array: Any, sharding: NamedSharding) -> Any:
    """An array laid out; of one that is the same in every process, each puts its own part."""
    if sharding.is_fully_addressable or (isinstance(array, jax.Array) and not array.is_fully_addressable):
        return jax.device_put(array, sharding)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
