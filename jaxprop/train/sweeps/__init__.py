"""Many training runs at once: `sweep`, seeds × settings, each run the one that `fit` would make alone.

sweeping.py      `sweep`: what may be asked                     result.py     what it gives back, as a table
task.py          what all runs share                            whole.py      the programs in turn
settings.py      combinations, and who takes which setting      programs.py   runs side by side, compiled
tracing.py       which settings can be numbers in one program   memory.py     how many runs fit at once
side_by_side.py  runs of one program, epoch after epoch         scores.py     validation rows, for all of them
gathered.py      what the runs have given so far
"""

from jaxprop.train.sweeps.result import (
    BestRun as BestRun,
    SweepInterrupted as SweepInterrupted,
    SweepResult as SweepResult,
)
from jaxprop.train.sweeps.sweeping import sweep as sweep
