"""Where training rows come from: arrays in memory, or files that are larger than it.

source.py      what `fit` asks of rows that it reads by number        in_memory.py   arrays
files.py       arrays whose rows lie in files                         given.py       what people give as rows
grain.py       Grain's data sets, by number or as a stream            own.py         a class of one's own
"""

from jaxprop.train.sources.given import (
    as_inputs as as_inputs,
    as_source as as_source,
    in_precision as in_precision,
    read_data as read_data,
)
from jaxprop.train.sources.grain import Stream as Stream, is_stream as is_stream
from jaxprop.train.sources.in_memory import InMemory as InMemory
from jaxprop.train.sources.source import (
    Checked as Checked,
    Source as Source,
    check_read as check_read,
    sample as sample,
)
