"""Models: where they come from, how they are loaded and swapped, how rows of many requests share a batch."""
