"""A network on disk: what it is, its folder, its arrays, and other formats of the same model."""
