"""Ways to differentiate a network: `auto` (jax.grad), `manual` (the chain rule), `mixed`, and `compare`."""
