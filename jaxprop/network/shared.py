"""One array in several places: tied weights.

Forward:   the network as it is, the owner's array (or its transpose) filled into every user's slot
Backward:  a nudge of the one array is felt in every place, so its gradient is the sum over the places:

    ∂C_n/∂W = Σ_k (the use of W in place k)          transposed where the place holds Wᵀ

The places stay apart as `Several` uses: the square of the sum has cross terms, which per-example norms must keep.

Edge cases: θ holds the owner's array once, users' slots are None. A tie into a `Repeat` is refused: its arrays are
stacked, one a block.
Source: Press and Wolf, "Using the Output Embedding to Improve Language Models" (2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.arrays.paths import by_path, dotted, join, place
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.fed import is_fed
from jaxprop.network.initialize import in_one_program
from jaxprop.network.repeat import Repeat
from jaxprop.network.walk import Combinator, Inner, Pulled, Pushed, Walk, Wrapper
from jaxprop.uses import Several, is_use

Tie = tuple[str, str, bool]


@dataclass(frozen=True)
class Shared(Wrapper):
    """Use one array in several places: the array at the path `user` is the one at `owner`, or its transpose.

    θ is `Inner(inner=θ)` with None at every user.

    Args:
        inner: the network.
        ties: triples (owner, user, transpose); the paths start inside `inner`.

    Raises:
        JaxpropError: a path leads nowhere or into a `Repeat`, or a user is tied twice or owns another tie.
        ShapeError: the shapes of two tied arrays differ.

    >>> from jaxprop.layers import Linear, Tanh
    >>> from jaxprop.network.chain import Chain
    >>> net = Shared(Chain(Linear(2), Tanh(), Linear(3)), ties=(("0.W", "2.W", True),))
    >>> params = net.init(jax.random.key(0), jax.numpy.ones((1, 3)))
    >>> params.inner[0].W.shape, params.inner[2].W
    ((3, 2), None)
    """

    ties: tuple[Tie, ...]

    def __post_init__(self) -> None:
        owners, users = [owner for owner, _, _ in self.ties], [user for _, user, _ in self.ties]
        for path in (*owners, *users):
            _refuse_repeats(self.inner, path)
        if len(set(users)) < len(users) or set(users) & set(owners):
            raise JaxpropError(f"Shared: found ties {self.ties}, expected every user once, and no owner among them")

    def with_children(self, children: Sequence[Layer]) -> "Shared":
        """Return another network with the same ties."""
        return Shared(children[0], self.ties)

    @in_one_program
    def init(self, key: Key[Array, ""] | None, x: PyTree) -> Inner:
        """Return θ of the network, without the users' arrays."""
        params = self.inner.init(key, x)
        shapes = {path: leaf.shape for path, leaf in by_path(params).items()}
        for owner, user, transpose in self.ties:
            for path in (owner, user):
                if path not in shapes:
                    raise JaxpropError(f"Shared: no parameter at {path!r}; there are {', '.join(shapes)}")
            found = shapes[owner][::-1] if transpose else shapes[owner]
            if found != shapes[user]:
                raise ShapeError(
                    f"Shared: {owner}{' transposed' if transpose else ''} is {list(found)}, {user} needs "
                    f"{list(shapes[user])}"
                )
        return Inner(_replaced(params, {user: None for _, user, _ in self.ties}))

    def __call__(self, x: PyTree, params: PyTree, env: Env | None = None) -> PyTree:
        """Return f(x) and keep nothing."""
        return self.inner(x, self.filled(params, ""), env)

    def push(self, walk: Walk, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go forward with every slot filled."""
        return walk.push(self.inner, x, self.filled(params, path), env, join(path, "inner"))

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go back; the users' uses join their owner's."""
        dx, uses, notes = walk.pull(self.inner, dy, cache, self.filled(params, path), join(path, "inner"))
        found = by_path(uses, is_leaf=is_use)
        joined: dict[str, PyTree] = {user: None for _, user, _ in self.ties}
        for owner in dict.fromkeys(owner for owner, _, _ in self.ties):
            users = [(user, transpose) for o, user, transpose in self.ties if o == owner]
            together = (found[owner], *(found[user] for user, _ in users))
            transposes = (False, *(transpose for _, transpose in users))
            joined[owner] = Several(together, transposes, found[owner].shape, found[owner].dtype)
        return dx, Inner(_replaced(uses, joined)), notes

    def filled(self, params: PyTree, path: str) -> PyTree:
        """Return θ of `inner` with every user's slot filled."""
        self.check_params(params, path)
        arrays = by_path(params[0], is_fed)
        missing = [owner for owner, _, _ in self.ties if owner not in arrays]
        if missing:
            raise ShapeError(
                f"{place('Shared', path)}: params have no array at {missing[0]!r}; make them with net.init(key, x)"
            )
        return _replaced(params[0], {u: arrays[o].T if transpose else arrays[o] for o, u, transpose in self.ties})


def _replaced(tree: PyTree, new: dict[str, PyTree]) -> PyTree:
    """The tree with other leaves at some paths; None is a leaf here."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: new.get(dotted(path), leaf),
        tree,
        is_leaf=lambda node: node is None or is_use(node) or is_fed(node),
    )


def _refuse_repeats(layer: Layer, path: str) -> None:
    """Raise JaxpropError where a path leads into a Repeat, or to no layer at all."""
    rest = path
    while isinstance(layer, Combinator):
        if isinstance(layer, Repeat):
            raise JaxpropError(
                f"Shared: {path!r} leads into {layer!r}, whose arrays are one a block; tie outside of it"
            )
        name, _, rest = rest.partition(".")
        if name not in layer.names() or not rest:
            raise JaxpropError(f"Shared: {path!r} leads nowhere: {layer!r} has children {', '.join(layer.names())}")
        layer = layer.children()[layer.names().index(name)]
