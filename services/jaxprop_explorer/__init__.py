"""The explorer: a page in the browser where backpropagation can be watched, questioned and steered.

Python computes everything by the library and sends JSON; the page draws.
"""
