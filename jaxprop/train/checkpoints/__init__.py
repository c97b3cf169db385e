"""Going on where a run was: what is kept on disk, when, and of what it is.

keeper.py      what `fit` asks of whoever keeps its run          on_disk.py     a run kept by Orbax, in the background
settings.py    where, and how often                              contents.py    what is kept of a run
folder.py      which checkpoint is whole                         arrays.py      Orbax
identity.py    what a run is of: another one is refused          described.py   what can be told of a function
"""

from jaxprop.train.checkpoints.identity import identity as identity
from jaxprop.train.checkpoints.keeper import Keeper as Keeper, read_checkpoints as read_checkpoints
from jaxprop.train.checkpoints.settings import Checkpoints as Checkpoints
