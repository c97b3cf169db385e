"""From settings to what they describe: a network with its first θ, a cost, and the rows as the cost wants them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.costs import Cost
from jaxprop.layers import Layer, Linear
from jaxprop.network import Chain, by_path
from jaxprop_explorer.experiments import programs
from jaxprop_explorer.experiments.problems import Problem, Source
from jaxprop_explorer.experiments.settings import Settings, activation, made_cost


def made(settings: Settings, source: Source) -> tuple[Layer, Cost, Problem, PyTree]:
    """Return the network, the cost, the rows and the first θ of complete settings."""
    complete = settings.complete(source)
    cost, rows = made_cost(complete, source)
    first = [] if source.standardize is None else [source.standardize]
    bend, bias = activation(complete.activation or "tanh"), bool(complete.bias)
    hidden = [layer for width in complete.layers or () for layer in (Linear(width, bias=bias), bend)]
    ending = [] if complete.output_activation == "identity" else [activation(complete.output_activation or "identity")]
    net = Chain(*first, *hidden, Linear(source.outputs(cost), bias=bias), *ending)
    params = programs.beginning(net)(complete.seed, rows.x[:1])
    given, known = source.first, by_path(params)
    if set(given) == set(known) and all(np.shape(given[path]) == np.shape(known[path]) for path in given):
        params = jax.tree.unflatten(
            jax.tree.structure(params), [jnp.asarray(given[path], known[path].dtype) for path in known]
        )
    return net, cost, rows, params


def same_rows(a: Settings, b: Settings) -> bool:
    """Whether two settings mean the same rows."""
    names = {"data", "noise", "validation", "table", "target", "labels"}
    return a.model_dump(include=names) == b.model_dump(include=names)
