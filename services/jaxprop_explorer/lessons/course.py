"""The course in one sitting: eight steps, the eight chapters, each with one question at its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax

from jaxprop.errors import JaxpropError
from jaxprop_explorer.lessons import chapter_1, chapter_2, chapter_5, chapter_7, nets
from jaxprop_explorer.lessons.answers import Mistake, Verdict, judge, read
from jaxprop_explorer.lessons.parts import number

CHAPTERS = (
    "1-perceptron",
    "2-why-linear-is-not-enough",
    "3-feedforward",
    "4-cost",
    "5-chain-rule",
    "6-hidden-layers",
    "7-gradient-descent",
    "8-what-backpropagation-is-not",
)


@dataclass(frozen=True)
class Question:
    """A question with a number for an answer; `make` computes the answer and the typical wrong ones."""

    words: str
    make: Callable[[], tuple[float, tuple[Mistake, ...]]]
    why: str  # what the right answer shows

    @cached_property
    def known(self) -> tuple[float, tuple[Mistake, ...]]:
        """The right answer and the typical wrong ones, in float64."""
        with jax.enable_x64(True):
            return self.make()

    def check(self, answer: str) -> Verdict:
        """Say whether an answer is right, and explain."""
        truth, mistakes = self.known
        verdict = judge(read(answer), truth, mistakes)
        if verdict.right:
            return Verdict(True, f"{verdict.told} {self.why}")
        if not verdict.mistake:
            return Verdict(
                False, "This is not right, and none of the usual slips. Open the lessons of this step and try again."
            )
        return verdict


@dataclass(frozen=True)
class Choices:
    """A question with answers to choose from: each with what it says, and what is told when it is chosen."""

    words: str
    answers: tuple[tuple[str, str], ...]
    right: int

    def check(self, answer: str) -> Verdict:
        """Say whether the answer of that number, counted from 0, is right, and explain."""
        if not answer.isdigit() or int(answer) >= len(self.answers):
            raise JaxpropError(f"choose one of the {len(self.answers)} answers")
        right = int(answer) == self.right
        return Verdict(right, self.answers[int(answer)][1], "" if right else f"answer {answer}")


@dataclass(frozen=True)
class Stage:
    """One step of the course: a chapter, its idea, the lessons that belong to it, a question, and what it leaves."""

    chapter: int
    title: str
    paragraphs: tuple[str, ...]
    lessons: tuple[int, ...]
    question: Question | Choices
    learned: str

    @property
    def docs(self) -> str:
        """Where the chapter stands in the project's docs."""
        return f"docs/chapters/{CHAPTERS[self.chapter - 1]}.md"


def _wrong(*slips: tuple[str, float, str]) -> tuple[Mistake, ...]:
    return tuple(Mistake(name, "", value, told) for name, value, told in slips)  # a question has no steps to name


def _sum_question() -> tuple[float, tuple[Mistake, ...]]:
    one = nets.unit()
    z, b = float(one.tape["1"].x[0, 0]), float(one.params[0].b[0])
    return z, _wrong(
        (
            "bias inside",
            chapter_1.weighted("inside").numbers["z"],
            "This adds the bias once for every input. A unit has one bias, added once.",
        ),
        ("bias forgotten", z - b, "This is the sum without the bias."),
        ("activation", float(one.y[0, 0]), "This is a = σ(z), one step further. z is the sum before it is bent."),
        (
            "sign",
            float(abs(one.x * one.params[0].W[:, 0]).sum()) + b,
            "The second weight is negative: its input counts against.",
        ),
    )


def _floor_question() -> tuple[float, tuple[Mistake, ...]]:
    _, _, best = chapter_2.best_linear("deep", "square")
    return best, _wrong(
        (
            "no bias",
            chapter_2.best_linear("wx", "square")[2],
            "This is what w·x leaves without a bias. With biases the constant 1/3 is possible, and better.",
        ),
        (
            "zero",
            0.0,
            "More layers do not help: without a bend they collapse into one, and no straight line is a parabola.",
        ),
    )


def _product_question() -> tuple[float, tuple[Mistake, ...]]:
    before, after = (float(nets.chain(w).y[0, 0]) for w in ((0.4, 0.3), (0.8, 0.6)))
    return after, _wrong(
        (
            "doubled once",
            2 * before,
            "It is linear in x, not in θ: both weights are doubled, and they are multiplied with each other.",
        ),
        ("unchanged", before, "This is the answer before the weights were doubled."),
    )


def _cost_question() -> tuple[float, tuple[Mistake, ...]]:
    chain = nets.chain()
    C, miss = chain.grads()[0], float(chain.tape["1"].dy[0, 0])
    return C, _wrong(
        ("half", 2 * C, "The ½ is missing: this is the squared error, twice the half squared error."),
        ("not squared", miss / 2, "This is half the miss. It has to be squared first."),
        ("miss", miss, "This is the miss y − target itself. The cost is half its square."),
    )


def _factors_question() -> tuple[float, tuple[Mistake, ...]]:
    facts = chapter_5.unit_derivation("w2").facts
    miss, slope, x = (factor["value"] for factor in facts["factors"])
    a = float(nets.unit().y[0, 0])
    w = facts["parameter"]
    return facts["value"], _wrong(
        ("sign", -facts["value"], "The sign of the error is swapped: ∂C/∂a is answer minus target."),
        ("input forgotten", miss * slope, "This is δ. The last factor, the input 3, is missing."),
        ("slope forgotten", miss * x, "The slope σ′(z) is missing."),
        ("value for slope", miss * a * x, "This takes σ(z) where σ′(z) belongs."),
        ("weight for input", miss * slope * w, "This uses the weight where the input belongs: ∂z/∂w₂ = x₂."),
    )


def _paths_question() -> tuple[float, tuple[Mistake, ...]]:
    shown = nets.two_paths()
    tape = shown.tape
    errors, W = tape["2"].dy[0], shown.params[2].W
    terms = [float(e * w) for e, w in zip(errors, W[0], strict=True)]
    return float(tape["1"].dy[0, 0]), _wrong(
        ("path 2 dropped", terms[0], "The path through output 2 is missing: the unit goes into both outputs."),
        ("path 1 dropped", terms[1], "The path through output 1 is missing: the unit goes into both outputs."),
        (
            "weights forgotten",
            float(errors.sum()),
            "Each error is weighed with the weight that leads there; here they are only added.",
        ),
        ("slope too", float(tape["1"].dx[0, 0]), "This is δ = ∂C/∂z, one step further: σ′(z) is in it already."),
    )


def _update_question() -> tuple[float, tuple[Mistake, ...]]:
    steps = {move: chapter_7.walk((move,), 0.1)[-1][1][0] for move in ("minus", "plus")}
    (w, _), g = nets.weights_of(nets.chain()), nets.weights_of(nets.chain().with_(nets.chain().grads()[1]))[0]
    climbed = chapter_7.walk(("plus",), 0.1)
    return steps["minus"], _wrong(
        (
            "added",
            steps["plus"],
            f"This adds the gradient, as the article says, and C rises from {number(climbed[0][2])} to "
            f"{number(climbed[1][2])}. Subtract it.",
        ),
        ("rate forgotten", w - g, "The learning rate is missing: the step is 0.1 times the gradient."),
        ("change only", -0.1 * g, "This is the change. The new weight is the old one plus this."),
    )


STAGES: Sequence[Stage] = (
    Stage(
        1,
        "The perceptron",
        (
            "A unit weighs evidence: each input times its weight, all of it added up, and one bias. That is z. Then "
            "it bends "
            "z by its activation: that is a, its answer.",
            "Rosenblatt's perceptron of 1958 had a step for that. A step is flat, so a small change of a weight "
            "changes "
            "nothing, and there is nothing to learn from. A sigmoid rises gently.",
        ),
        (3, 2, 4),
        Question(
            "The inputs are 1, 3 and 2, the weights 0.5, −0.25 and 0.75, the bias is 0.1. What is z?",
            _sum_question,
            "The bias stands once, outside the sum.",
        ),
        "A unit is a weighted sum, one bias, and a bend.",
    ),
    Stage(
        2,
        "Why linear is not enough",
        (
            "One weight learns a line. Linear units, however many layers of them, make one matrix: they learn lines "
            "and nothing else.",
            "A bend between the layers changes that: one hidden layer with an activation that is no polynomial comes "
            "as near as "
            "you like to any continuous function on an interval.",
        ),
        (5, 6, 7, 8, 9),
        Question(
            "Three linear layers with biases learn x² on [−1, 1]. Which mean squared error is left at best? (A "
            "fraction is fine.)",
            _floor_question,
            "It is 4/45, the floor of every straight line: depth without a bend changes nothing.",
        ),
        "Layers without a bend collapse into one; the bend makes the difference.",
    ),
    Stage(
        3,
        "The feedforward pass",
        (
            "A network is a function f(x, θ): the input, and everything that can be learned. Each layer takes what "
            "the one "
            "before hands on, forms its sums, and bends them.",
            "Nothing inside remembers anything. What is called learning is a change of θ, from outside.",
        ),
        (1, 10, 11, 12, 13),
        Question(
            "f = w₁·w₂·x with w = (0.4, 0.3) answers 0.12 at x = 1. What does it answer if both weights are doubled?",
            _product_question,
            "Linear in x does not mean linear in θ.",
        ),
        "A network is f(x, θ), linear in no simple way in θ.",
    ),
    Stage(
        4,
        "The cost",
        (
            "The cost makes one number of the miss: half its square. The ½ is there so that its slope is the plain "
            "difference.",
            "It takes an answer and a target. One sample says little, so training makes the mean cost of "
            "many samples small.",
        ),
        (14, 6, 10),
        Question(
            "The answer is 0.12, the target 2. What is the half squared error?",
            _cost_question,
            "Without the ½ both C and every gradient would be twice as large.",
        ),
        "The cost takes an answer and a target; half squared error has a ½, and no mean.",
    ),
    Stage(
        5,
        "The chain rule",
        (
            "A weight moves z, z moves a, a moves C. The derivative is the product of the three: how far C moves "
            "with a, a with "
            "z, and z with the weight.",
            "The first two make the error δ of the unit. So every gradient is δ times what came in, and for the bias "
            "it is δ.",
        ),
        (16, 17, 18, 21),
        Question(
            "For the unit of step 1 with the target 1: ∂C/∂a = −0.20587, ∂a/∂z = 0.16349, and w₂ has the input 3. "
            "What is ∂C/∂w₂?",
            _factors_question,
            "Three small factors, and jax.grad finds the same number.",
        ),
        "∂C/∂w = ∂C/∂a · ∂a/∂z · ∂z/∂w, and the first two are δ.",
    ),
    Stage(
        6,
        "Hidden layers",
        (
            "A hidden unit has no target. It goes into every unit of the next layer, and what comes back along these "
            "paths is "
            "added: each error above, times the weight that leads there.",
            "All paths through a unit share their upper end, its δ. So one goes back layer by layer, and the whole "
            "gradient "
            "costs about as much as two passes forward.",
        ),
        (19,),
        Question(
            "The outputs' errors are 0.13372 and 0.96129; the weights from hidden unit 1 to them are 1 and −0.5. "
            "What is ∂C/∂a of hidden unit 1?",
            _paths_question,
            "The sum over paths is what the article leaves out, and why it is called backpropagation.",
        ),
        "The error of a hidden unit is a sum over paths, from the back to the front.",
    ),
    Stage(
        7,
        "Gradient descent",
        (
            "The gradient says which way C rises; so it is subtracted, times a learning rate η that is chosen.",
            "It is no ball: no momentum, minima in a curve, a saddle where nothing moves, and too large an η diverges.",
        ),
        (20, 15),
        Question(
            "w₁ = 0.4, ∂C/∂w₁ = −0.564 and η = 0.1. What is w₁ after one step of gradient descent?",
            _update_question,
            "Minus, and η: C falls from 1.7672 to 1.6722 when both weights take their step.",
        ),
        "w ← w − η·∂C/∂w: minus, and how far is chosen.",
    ),
    Stage(
        8,
        "What backpropagation is not",
        (
            "It is not learning: it computes the gradient and changes nothing. It is not a row of nudges: forward "
            "and back once "
            "yields all derivatives. It is not only for networks, not younger than 1970, and not known in the brain.",
            "And it is no promise: the gradient is that of this cost on these examples. What the cost has no word "
            "for, such as "
            "a picture that is no digit, it cannot say.",
        ),
        (22, 20, 19),
        Choices(
            "What does backpropagation compute?",
            (
                (
                    "The new weights.",
                    "No: that is what an optimizer does with the result. Lesson 20 shows one gradient and several "
                    "updates.",
                ),
                (
                    "The derivative of C with respect to every parameter.",
                    "Right. One forward pass, one backward pass, and the gradient is there; what is done with it is "
                    "another matter.",
                ),
                (
                    "The direction into which the answer should be pushed.",
                    "No: the gradient has one number for every parameter. The answer follows as the parameters take "
                    "it.",
                ),
                (
                    "A formula for the derivative.",
                    "No: it works with numbers, each step's own small derivative taken at the values of this forward "
                    "pass.",
                ),
            ),
            1,
        ),
        "Backpropagation computes the gradient; an optimizer uses it; the examples decide what is learned.",
    ),
)


def stage(number: int) -> Stage:
    """Return a step of the course, counted from 1."""
    if not 1 <= number <= len(STAGES):
        raise JaxpropError(f"the course has {len(STAGES)} steps, found {number}")
    return STAGES[number - 1]
