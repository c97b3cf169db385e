"""Why a model answers as it does: the explain route, and our explainer by gradients."""
