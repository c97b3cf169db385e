"""What a plugin may import, and what its objects must offer: this module is the whole of it.

An installed package offers an object as an entry point of one of four groups; the server loads those that its settings
name (`runtimes`, `stores`, `explainers`, `services`), and no others. services/README.md has a complete plugin.

    jaxprop.runtimes     an object   Runtime    folders that can be loaded
    jaxprop.stores       a callable  Store      store(places): where models come from
    jaxprop.explainers   a callable  Explainer  explainer(loaded, compile): why a model answers as it does
    jaxprop.services     a callable  Service    service(models, settings): what is answered beside the protocol

What a client did wrong is raised as ServeError(400, text); what an operator or a model's folder did wrong as
jaxprop.errors.JaxpropError or ModelError, whose text is shown in one line.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from jaxprop_serve.errors import ServeError as ServeError
from jaxprop_serve.http1.endpoints import reply as reply
from jaxprop_serve.http1.request import Request as Request
from jaxprop_serve.http1.routes import Mount as Mount, Reply as Reply, Route as Route
from jaxprop_serve.models.runtimes import Arrays as Arrays, Loaded as Loaded, compiler as compiler
from jaxprop_serve.protocol.tensors import DATATYPES as DATATYPES, Signature as Signature, TensorSpec as TensorSpec
from jaxprop_serve.why.explain import Compile as Compile, Question as Question


class Runtime(Protocol):
    """Loads folders of one kind. The first of those allowed that accepts a folder loads it."""

    name: str

    def accepts(self, path: Any) -> bool:
        """Whether it can load this folder; a glance at its files, no more."""
        ...

    def load(self, path: Any) -> Loaded:
        """Read and check it, in the loader's thread. ModelError says what is wrong with it.

        `compiler(f, params, signature)` makes `Loaded.compile` of a JAX function; any other function of numpy arrays
        will do. Rows must not depend on each other, which is checked.
        """
        ...


class Store(Protocol):
    """Where models come from; made of the places named on the command line. Asked anew at each load."""

    def names(self) -> list[str]:
        """All models."""
        ...

    def versions(self, name: str) -> list[str]:
        """The versions of a model, whole numbers as text, oldest first; none if it is unknown."""
        ...

    def path(self, name: str, version: str) -> Any:
        """The folder of one version, for a runtime; it must be here when this returns."""
        ...


class Explainer(Protocol):
    """Called once for each version of a model that it is asked about; what it returns answers the questions."""

    def __call__(self, loaded: Loaded, compile: Compile) -> Callable[[Question], Arrays]:
        """explain(question) -> outputs by name, numpy arrays; in a thread beside the event loop, several at once.

        `compile(g, *more)` makes a function of numpy arrays, with any number of rows, of a JAX function
        g(inputs by name, params) -> outputs by name; `more` are inputs beside the model's. `loaded.f` is such a g.
        """
        ...


class Service(Protocol):
    """Called once, before the models are loaded."""

    def __call__(self, models: Any, settings: Any) -> Iterable[Route | Mount]:
        """Routes and mounted ASGI applications, behind the same tokens and limits.

        `with models.pin(name, version) as served` holds on to a model: `await served.infer({input: rows})` answers by
        the batcher, `served.signature` and `served.loaded` say what it is.
        """
        ...
