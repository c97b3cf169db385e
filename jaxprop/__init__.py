"""Backpropagation you can open: a network is a pure function f(x, θ), and its gradient keeps every factor.

The names below stand in the order of the data flow: describe → init θ → f(x, θ) → cost → backward → update → save.

    net = Chain(Linear(30), Sigmoid(), Linear(10))      a frozen description
    params = net.init(key, x)                           θ, a pytree of arrays
    y = net(x, params)                                  f(x, θ)
    value, grads = manual.value_and_grad(net, cost)(x, params, targets)     the chain rule, by hand
    value, grads = auto.value_and_grad(net, cost)(x, params, targets)       the same numbers, by jax.grad
    compare(net, cost)(x, params, targets)              both, and finite differences
    result = fit(net, cost, optimizer, (x, targets))    an optax training run
    save(path, net, result.params, inputs=x)            a folder; load(path) gives (net, params) back
"""

from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxprop.names import *

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """Import a room alone, or all names when the first is asked for: `jaxprop --help` needs no JAX."""
        if name == "__version__":
            return metadata.version("jaxprop-nn")
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module 'jaxprop' has no attribute {name!r}")
        if name.isidentifier() and name.islower() and find_spec(f"jaxprop.{name}"):
            return import_module(f"jaxprop.{name}")
        names = import_module("jaxprop.names")
        globals().update({known: vars(names)[known] for known in names.__all__ if known in vars(names)})
        try:
            return getattr(names, name)
        except AttributeError:
            raise AttributeError(f"module 'jaxprop' has no attribute {name!r}") from None

    def __dir__() -> list[str]:
        """List them too."""
        return sorted({*globals(), *__getattr__("__all__")})
