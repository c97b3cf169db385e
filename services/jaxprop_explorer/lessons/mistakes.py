"""What the article gets wrong or leaves open, where it is taught right, and what shows it: numbers, not a sentence."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxprop_explorer.lessons.parts import Try

ELSEWHERE = 26  # the list of mistakes ends with 25, and with "also elsewhere"


@dataclass(frozen=True)
class Correction:
    """One entry of the list: what is said, what is right, the lesson that teaches it, and the try that shows it.

    `number` names the one of the try's numbers that shows it.
    """

    said: str
    right: str
    lesson: int
    shown: Try
    number: str
    also: tuple[int, ...] = ()  # other lessons that come back to it


def _see(widget: str, number: str, **values: object) -> tuple[Try, str]:
    return Try("See it", widget, values), number


CORRECTIONS: Mapping[int, Correction] = {
    1: Correction(
        "The result is added to each parameter.",
        "It is subtracted: the gradient points to where C rises, so adding it climbs.",
        20,
        *_see("sign", "C", moves=["plus"], rate=0.1),
    ),
    2: Correction(
        "There is no learning rate anywhere.",
        "A step is η times the gradient, and η is chosen. Without it, which is η = 1, this example diverges.",
        20,
        *_see("sign", "C", moves=["minus"] * 6, rate=1),
        also=(15,),
    ),
    3: Correction(
        "The bias result is labelled δC/δw, and the step ∂z/∂b is left out.",
        "It is ∂C/∂b, and it is δ, for ∂z/∂b = 1.",
        18,
        *_see("bias", "∂C/∂b", by=0.01),
    ),
    4: Correction(
        "δ is written for the derivative.",
        "The sign of a derivative is ∂. δ is the error ∂C/∂z, which is another number than ∂C/∂w.",
        17,
        *_see("factors", "delta", place="w3"),
        also=(2,),
    ),
    5: Correction(
        "The prediction is y and the label ŷ; later y is the label.",
        "Most texts have y for the label and ŷ for the prediction. Here: y is the answer, the other is the target. "
        "Mixed up, the sign is wrong.",
        14,
        *_see("swap", "swapped", notation="article"),
        also=(2,),
    ),
    6: Correction(
        "A “normalization function” keeps numbers from growing.",
        "It is an activation function, there to bend. ReLU keeps nothing small; normalising is another thing.",
        10,
        *_see("normalise", "largest", kind="relu"),
    ),
    7: Correction(
        "½(a − ŷ)² is called mean squared error.",
        "It is half the squared error of one sample. Without the ½ both C and the gradient are twice as large.",
        14,
        *_see("half", "gradient ratio", cost="half", target=1),
    ),
    8: Correction(
        "Σᵢ wᵢnᵢ + bᵢ has the bias inside the sum, and z_m(a_i) = a_{ni}w_i + b_m has no Σ.",
        "One bias for each unit, outside the Σ.",
        3,
        *_see("sum", "z", form="inside"),
    ),
    9: Correction(
        "The output is Σ xₘaₘ, but its gradient is derived with a σ′.",
        "For this linear output ∂a/∂z = 1: there is no σ′.",
        13,
        *_see("output", "first", kind="sigmoid"),
    ),
    10: Correction(
        "x is the input and weights, a is an input and an activation, n₁ a node and its value.",
        "One symbol, one thing, and a legend.",
        2,
        *_see("letters", "letters that mean two things", notation="article"),
    ),
    11: Correction(
        "C′(a(z(w, x)))·a′·z′·w′ has a fourth factor, and z′ does not say by what.",
        "w′ is 1, and z′ has to be the derivative with respect to w.",
        17,
        *_see("stray", "dw/dw", factor="w'"),
    ),
    12: Correction(
        "“Calculated for every single weight”, but only the last layer is derived.",
        "A hidden unit's error is a sum over its outgoing paths, from the back to the front.",
        19,
        *_see("paths", "gradient", through="1", hidden="1"),
    ),
    13: Correction(
        "The chain rule is needed because C is a function of y and ŷ.",
        "It is needed because w acts through z and a.",
        17,
        *_see("wiggle", "ΔC", by=0.01),
    ),
    14: Correction(
        "Backpropagation is how networks update their state.",
        "It computes the gradient and changes nothing; gradient descent, or Adam, uses it.",
        20,
        *_see("optimizers", "update 1", optimizer="adam"),
    ),
    15: Correction(
        "A ball rolls to the nearest low point and stays there.",
        "No momentum; a curve of minima; it can overshoot, diverge, or sit on a saddle; and training averages many "
        "samples.",
        15,
        *_see("descend", "θ₁", start="saddle", rate=0.1, momentum="none"),
    ),
    16: Correction(
        "A direction to push the prediction.",
        "The gradient is a direction in the space of the parameters: one number for each.",
        11,
        *_see("theta", "slopes", net="sixteen", scale=2),
    ),
    17: Correction(
        "v̄ = Δx/Δt is the flight of the ball.",
        "It is an average velocity; the derivative is what it becomes as Δt goes to 0.",
        16,
        *_see("ball", "average", dt=1),
    ),
    18: Correction(
        "More perceptrons approximate “arbitrarily complicated linear systems”.",
        "w·x has no bias, so not even x + 1: that is affine.",
        7,
        *_see("floor", "mean squared error", kind="wx", target="x+1"),
    ),
    19: Correction(
        "The linear unit w·x is called a perceptron.",
        "Rosenblatt's perceptron has a step for an output, whose slope is 0.",
        4,
        *_see("units", "largest slope", unit="step"),
    ),
    20: Correction(
        "Two things are needed for “higher-order functions”: hidden layers and nonlinear activations.",
        "One hidden layer is enough, if the activation is no polynomial; one neuron is not. A higher-order function "
        "is one of functions.",
        9,
        *_see("how_many", "64 units", activation="square"),
    ),
    21: Correction(
        "It learns from x = 1 alone.",
        "One sample is fitted by every f with f(1) = 1, and x = 0 has the gradient 0.",
        6,
        *_see("fits", "fits", sample=1),
    ),
    22: Correction(
        "σ squashes “onto the range of 0 to 1”.",
        "Onto the open interval; its slope is ¼ at most and vanishes, so with the squared error it learns slowly "
        "when it is very wrong.",
        10,
        *_see("very_wrong", "squared error", z=4),
    ),
    23: Correction(
        "“3(…)′ → 3”, ignoring the inside.",
        "The outer derivative is taken at the inside.",
        21,
        *_see("where", "found", place="x"),
    ),
    24: Correction(
        "Invented in 1970, popular with the emergence of deep learning.",
        "1970 is Linnainmaa's reverse mode; popular since 1986.",
        19,
        *_see("history", "popular since"),
    ),
    25: Correction(
        "a_{L−1} appears without L; the cost is C “given an input”.",
        "Layers count from 1 to L, and a⁽ˡ⁻¹⁾ is what layer l takes in. C takes an answer and a target.",
        19,
        *_see("layers", "inputs", layer="2"),
        also=(13, 14),
    ),
    ELSEWHERE: Correction(
        "Courses had wrong explanations of the chain rule for years (ml-glossary #66 and #148, AI-For-Beginners "
        "#730, #731 and #747).",
        "No formula here is typed twice: what is shown is what was evaluated, and the same number comes from jax.grad.",
        21,
        *_see("stepper", "by jax.grad", expression="3*(x**2+1)**3", at="2", steps=8),
    ),
}


def of_lesson(number: int) -> dict[int, Correction]:
    """Return the corrections that a lesson teaches, by their number in the list."""
    return {i: each for i, each in CORRECTIONS.items() if each.lesson == number}
