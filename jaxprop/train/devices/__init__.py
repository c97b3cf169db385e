"""Many devices, in one process or in many.

mesh.py        which devices, and what each axis of them is for
"""

from jaxprop.train.devices.mesh import Devices as Devices, read_mesh as read_mesh
