"""The MLP of serving.py behind MLServer, as its documentation says to write a model: for `serving.py --mlserver`."""

import jax
import numpy as np
from mlserver import MLModel  # pyright: ignore[reportMissingImports] (in an environment of its own)
from mlserver.codecs import NumpyCodec  # pyright: ignore[reportMissingImports]
from mlserver.types import InferenceRequest, InferenceResponse  # pyright: ignore[reportMissingImports]


class MLP(MLModel):
    """784-128-10, sigmoid."""

    async def load(self) -> bool:
        """Weights of the right shapes, and the forward compiled."""
        rng = np.random.default_rng(0)
        W1, b1, W2, b2 = (jax.device_put(rng.random(s, dtype=np.float32)) for s in ((784, 128), 128, (128, 10), 10))
        self.forward = jax.jit(lambda x: jax.nn.sigmoid(x @ W1 + b1) @ W2 + b2)
        np.asarray(self.forward(np.zeros((1, 784), np.float32)))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One request."""
        y = np.asarray(self.forward(NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])
