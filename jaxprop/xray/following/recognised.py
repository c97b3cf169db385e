"""Which equation is which meeting."""

from collections.abc import Sequence

from jaxprop.xray.following.convolutions import Convolution
from jaxprop.xray.following.meetings import Gain, Meeting, Product, Rows, Slices, Sum, row_number
from jaxprop.xray.following.parts import Parts
from jaxprop.xray.versions import Equation


def meeting_at(equation: Equation, held: Sequence[Parts], mapped: Sequence[bool]) -> Meeting | None:
    """Recognise a meeting; None where there is none: the equation loses the parameters that it is given."""
    name = equation.primitive.name
    sides = [i for i, parts in enumerate(held) if parts]
    if len(sides) != 1:
        return None
    (side,) = sides
    if name == "dot_general":
        return Product(equation, side, kept=1 - side)
    if name == "conv_general_dilated" and side == 1:
        return Convolution(equation, side, kept=0)
    if name in ("add", "add_any", "sub"):
        return Sum(equation, side)
    if name == "mul" and mapped[1 - side]:
        return Gain(equation, side, kept=1 - side)
    if name == "gather" and side == 0 and row_number(equation) is not None:
        return Rows(equation, side, counted=1)
    if name == "dynamic_slice" and side == 0:
        sizes, shape = equation.params["slice_sizes"], equation.invars[0].aval.shape
        cut = [axis for axis, (n, size) in enumerate(zip(sizes, shape, strict=True)) if n < size]
        return Slices(equation, side, counted=1 + cut[0]) if len(cut) == 1 else None
    return None
