"""Going on where a run was: what is kept on disk, when, and of what it is.

keeper.py      what `fit` asks of whoever keeps its run
"""

from jaxprop.train.checkpoints.keeper import Keeper as Keeper, read_checkpoints as read_checkpoints
