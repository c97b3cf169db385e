"""Where training rows come from: arrays in memory, or files that are larger than it.

source.py      what `fit` asks of rows that it reads by number        in_memory.py   arrays
"""

from jaxprop.train.sources.in_memory import InMemory as InMemory
from jaxprop.train.sources.source import Source as Source
