"""Pictures: each function takes data, draws on `ax` (a new figure's if None) and returns the axes.

Pictures of two parts take and return an array of two axes. Nothing is shown and no global setting is changed:
`save(ax, path)` writes a file, `matplotlib.pyplot.show()` opens a window. Needs `pip install ".[plot]"`, when called.

    network, article_network, neuron_and_perceptron      what a network is
    activation, function_fit, boundary                   what it computes
    backward, learning_step                              how the error flows back; one step of descent as a film (GIF)
    saliency                                             which inputs an answer hangs on
    cost_curve, nudge, cost_surface, descend             what a gradient is, and what descent does with it
    history, gradient_sizes, inside                      what happened in training
    sweep                                                what many trainings came to
"""

from jaxprop.plot._landscape import Descent as Descent
from jaxprop.plot.backward import backward as backward, learning_step as learning_step
from jaxprop.plot.boundary import boundary as boundary
from jaxprop.plot.curves import activation as activation, function_fit as function_fit
from jaxprop.plot.diagram import article_network as article_network, network as network
from jaxprop.plot.inside import inside as inside
from jaxprop.plot.neuron import neuron_and_perceptron as neuron_and_perceptron
from jaxprop.plot.saliency import saliency as saliency
from jaxprop.plot.saving import Film as Film, save as save
from jaxprop.plot.slopes import cost_curve as cost_curve, nudge as nudge
from jaxprop.plot.surface import (
    article_cost as article_cost,
    cost_surface as cost_surface,
    descend as descend,
)
from jaxprop.plot.sweep import sweep as sweep
from jaxprop.plot.training import gradient_sizes as gradient_sizes, history as history
