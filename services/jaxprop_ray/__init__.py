"""The model server on a Ray cluster: replicas of `jaxprop_serve` behind Ray Serve's proxies.

Importing it does not import Ray: `jaxprop --help` works without.
"""

from jaxprop_ray.application import application as application, build as build
