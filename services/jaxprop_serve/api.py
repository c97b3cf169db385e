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

from collections.abc import Iterable
from typing import Protocol

from jaxprop.network import leaves as leaves
from jaxprop_serve.errors import ServeError as ServeError
from jaxprop_serve.http1.endpoints import reply as reply
from jaxprop_serve.http1.request import Request as Request
from jaxprop_serve.http1.routes import Mount as Mount, Reply as Reply, Route as Route
from jaxprop_serve.models.lifecycle import Models as Models
from jaxprop_serve.models.runtimes import (
    Arrays as Arrays,
    Function as Function,
    Loaded as Loaded,
    Runtime as Runtime,
    compiler as compiler,
)
from jaxprop_serve.models.stores import Store as Store
from jaxprop_serve.protocol.json_reading import located as located
from jaxprop_serve.protocol.tensors import DATATYPES as DATATYPES, Signature as Signature, TensorSpec as TensorSpec
from jaxprop_serve.settings import Settings as Settings
from jaxprop_serve.why.explain import Compile as Compile, Explainer as Explainer, Question as Question


class Service(Protocol):
    """Called once, before the models are loaded."""

    def __call__(self, models: Models, settings: Settings) -> Iterable[Route | Mount]:
        """Routes and mounted ASGI applications, behind the same tokens and limits.

        `with models.pin(name, version) as served` holds on to a model: `await served.infer({input: rows})` answers by
        the batcher, `served.signature` and `served.loaded` say what it is.
        """
        ...
