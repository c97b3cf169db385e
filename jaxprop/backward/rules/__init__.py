"""The backward pass as a value: rules that say how an error comes back through a layer. Public as `jp.rules`."""

from jaxprop.backward.rules.alignment import Angles as Angles, alignment as alignment
from jaxprop.backward.rules.at import at as at
from jaxprop.backward.rules.direct import DirectFeedbackAlignment as DirectFeedbackAlignment
from jaxprop.backward.rules.edits import (
    Clip as Clip,
    Drop as Drop,
    Edit as Edit,
    Noise as Noise,
    Quantize as Quantize,
    as_rule as as_rule,
)
from jaxprop.backward.rules.feedback import FeedbackAlignment as FeedbackAlignment
from jaxprop.backward.rules.guided import Deconvnet as Deconvnet, GuidedBackprop as GuidedBackprop
from jaxprop.backward.rules.kolen_pollack import KolenPollack as KolenPollack
from jaxprop.backward.rules.rule import Backprop as Backprop, Here as Here, Rule as Rule
from jaxprop.backward.rules.sign_symmetry import SignSymmetry as SignSymmetry
from jaxprop.backward.rules.straight_through import StraightThrough as StraightThrough
from jaxprop.backward.rules.walk import prepare as prepare
