"""Layers made of layers: one small file per combinator. `walk.py` says how they are visited."""

from jaxprop.arrays.paths import by_path as by_path, join as join
from jaxprop.network.chain import Chain as Chain
from jaxprop.network.leaves import Leaf as Leaf, Recorder as Recorder, in_order as in_order, leaves as leaves
from jaxprop.network.parallel import Parallel as Parallel
from jaxprop.network.remat import Remat as Remat
from jaxprop.network.repeat import Repeat as Repeat
from jaxprop.network.residual import Residual as Residual
from jaxprop.network.shared import Shared as Shared
from jaxprop.network.walk import Combinator as Combinator, Inner as Inner, Walk as Walk, Wrapper as Wrapper
