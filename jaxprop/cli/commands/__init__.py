"""What each command takes and says of itself. Nothing here imports JAX, so that help comes at once."""
