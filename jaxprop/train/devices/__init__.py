"""Many devices, in one process or in many.

mesh.py        which devices, and what each axis of them is for
layouts.py     which axis of which parameter lies on which of them
"""

from jaxprop.train.devices.mesh import Devices as Devices, read_mesh as read_mesh
