"""Many devices, in one process or in many.

mesh.py        which devices, and what each axis of them is for
layouts.py     which axis of which parameter lies on which of them
blocks.py      θ of repeated blocks gathered one block at a time
processes.py   how the processes of a job find each other, and how they end together
lifeline.py    how one learns that another has ended
"""

from jaxprop.train.devices.mesh import (
    Devices as Devices,
    devices_of as devices_of,
    read_mesh as read_mesh,
    refuse_spread as refuse_spread,
)
from jaxprop.train.devices.processes import await_news as await_news, distributed as distributed, failed as failed
