"""Training: `fit` and what it is made of.

fitting.py     `fit`: what may be asked, and the epochs            result.py      what it gives back
run.py         one run: its state, and what is measured            steps.py       θ ← θ + update, compiled
parts.py       `step` and `epoch`, for a loop of one's own         precision.py   in which numbers a step computes
optimizers.py  what some optimizers need more                      parameters.py  some of θ by path, for an optimizer
rows.py        rows as they are given, checked                     sources/       where rows come from, files too
batches.py     shuffled rows, gathered meanwhile                   streamed.py    batches in the order of a stream
metrics.py     `evaluate` and `predict`                            confusion.py   which classes are taken for which
progress.py    what is shown                                       watching.py    what whoever watches is told
monitor.py     quantities as training goes                         monitored.py   what they were
nonfinite.py   where the first NaN arose                           signals.py     Ctrl-C and SIGTERM
checkpoints/   going on where a run was                            logs/          where a run is written down
devices/       many devices, many processes                        together.py    how the processes of a run agree
sweeps/        many runs at once
"""

from jaxprop.train.checkpoints import Checkpoints as Checkpoints
from jaxprop.train.devices import Devices as Devices, distributed as distributed
from jaxprop.train.fitting import fit as fit
from jaxprop.train.metrics import evaluate as evaluate, predict as predict
from jaxprop.train.monitored import Monitored as Monitored
from jaxprop.train.parameters import averaged as averaged, choose as choose, frozen as frozen
from jaxprop.train.parts import epoch as epoch, step as step
from jaxprop.train.result import (
    Best as Best,
    FitResult as FitResult,
    FitState as FitState,
    TrainingInterrupted as TrainingInterrupted,
)  # fmt: skip
from jaxprop.train.sources import Source as Source, Stream as Stream
from jaxprop.train.sweeps import (
    BestRun as BestRun,
    SweepInterrupted as SweepInterrupted,
    SweepResult as SweepResult,
    sweep as sweep,
)  # fmt: skip
