"""RNN, GRU and LSTM."""

import numpy as np

import jaxprop as jp
from tests.cases.basic import sigmoid
from tests.cases.case import LayerCase

REAL = np.array([[True, True, False], [False, True, True], [True, False, True], [False, False, False]])


def rnn_cell(x, state, p):
    return (np.tanh(x @ p["W_input"] + p["b"] + state[0] @ p["W_hidden"]),)


def gru_cell(x, state, p):
    F = len(state[0])
    z, a = x @ p["W_input"] + p["b"], state[0] @ p["W_hidden"]
    r, u = sigmoid(z[:F] + a[:F]), sigmoid(z[F : 2 * F] + a[F : 2 * F])
    n = np.tanh(z[2 * F :] + r * (a[2 * F :] + p["b_hidden"]))
    return ((1 - u) * n + u * state[0],)


def lstm_cell(x, state, p):
    h, c = state
    i, f, g, o = np.split(x @ p["W_input"] + p["b"] + h @ p["W_hidden"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


CELLS = {jp.RNN: (rnn_cell, 1), jp.GRU: (gru_cell, 1), jp.LSTM: (lstm_cell, 2)}


def recurrent(layer, real=None):
    """One example and position at a time."""
    cell, states = CELLS[type(layer)]

    def value(x, params):
        p = {name: np.asarray(array, np.float64) for name, array in params._asdict().items()}
        y = np.zeros((*x.shape[:2], layer.features))
        for n in range(len(x)):
            state = (np.zeros(layer.features),) * states
            for t in range(x.shape[1]):
                if real is None or real[n, t]:
                    state = cell(x[n, t], state, p)
                y[n, t] = state[0]
        return y if layer.sequence else y[:, -1]

    return value


def cases(name, kind):
    last = kind(2, sequence=False)
    return [
        LayerCase(name, kind(2), (2, 3, 3), recurrent(kind(2))),
        LayerCase(f"{name}, last, padded", last, (4, 3, 2), recurrent(last, REAL), mask=lambda _: REAL),
    ]


LAYERS = [
    *cases("RNN", jp.RNN),
    *cases("GRU", jp.GRU),
    *cases("LSTM", jp.LSTM),
    LayerCase("LSTM, padded", jp.LSTM(2), (4, 3, 2), recurrent(jp.LSTM(2), REAL), mask=lambda _: REAL),
]
