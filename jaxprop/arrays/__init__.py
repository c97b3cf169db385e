"""Arrays and trees of them, whatever they are for: paths, dtypes, windows, how far two are apart. Knows no layer."""
