"""What options can be, by name, without importing what it names; a test holds each list against the library."""

SOURCES = ("digits", "line", "square", "xor", "moons", "spirals", "ball")
ACTIVATIONS = (
    "elu", "gelu", "hard_tanh", "identity", "leaky_relu", "quantize", "relu", "selu", "sigmoid", "silu", "softmax",
    "softplus", "softsign", "step", "tanh",
)  # fmt: skip
COSTS = (
    "absolute_error", "gaussian_negative_log_likelihood", "half_squared_error", "hinge", "huber", "kl_divergence",
    "mean_squared_error", "poisson_negative_log_likelihood", "sigmoid_cross_entropy", "softmax_cross_entropy",
)  # fmt: skip
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "lion")
INITIALIZERS = (
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "kaiming_normal", "kaiming_uniform", "lecun_normal",
    "lecun_uniform", "normal", "ones", "orthogonal", "standard_normal", "uniform", "xavier_normal", "xavier_uniform",
    "zeros",
)  # fmt: skip
QUANTITIES = ("second-moment", "variance", "signal-to-noise", "noise-scale")
MONITORED = ("noise", "norms", "updates", "flow", "dead", "saturated", "tests")
