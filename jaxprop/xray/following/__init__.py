"""Uses for functions that jaxprop did not write: parameters are followed to where an activation meets an error."""

from jaxprop.xray.following.foreign import ForeignPass as ForeignPass, foreign as foreign
