"""Exercises: the true answer is right and every typical mistake is told as itself; the course, and lessons as files."""

import functools
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxprop.errors import JaxpropError
from jaxprop.network import by_path
from jaxprop_explorer.lessons.answers import judge, read
from jaxprop_explorer.lessons.course import STAGES, Choices, Question
from jaxprop_explorer.lessons.document import html
from jaxprop_explorer.lessons.exercises import KINDS, check, check_factors, exercise, picture
from jaxprop_explorer.panels.lessons import COMMANDS

SEEDS = range(15)


def ask(session, command, **body):
    handler, asked, _ = COMMANDS[command]
    return handler(session, asked(**body))


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_right_and_every_mistake_is_told_as_itself(kind):
    for seed in SEEDS:
        asked = exercise(kind, seed)
        assert check(asked, f"{asked.truth:.3g}").right and check(asked, f"{asked.truth:.12g}").right
        assert len({mistake.name for mistake in asked.mistakes}) == len(asked.mistakes) >= 6
        for mistake in asked.mistakes:
            verdict = check(asked, f"{mistake.value:.4g}")
            assert not verdict.right and (verdict.mistake, verdict.step) == (mistake.name, mistake.step), (
                seed,
                mistake,
            )
            assert verdict.told == mistake.told


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_what_jax_grad_says(kind):
    asked = exercise(kind, 3)
    path, at = asked.place
    value = float(by_path(asked.example.jax_grads())[path][at])
    if kind == "update":
        before = float(by_path(asked.example.params)[path][at])
        rate = float(asked.given[-1][1])
        assert asked.truth == pytest.approx(before - rate * value)
    elif kind == "one_factor":
        factors = {each["name"]: each["value"] for each in asked.derivation.facts["factors"]}
        assert asked.truth == pytest.approx(factors[asked.factors[0].name])
    elif kind == "activation_slope":
        assert asked.truth == pytest.approx(float(asked.example.tape["1"].derivative[0, 0]))
    else:
        assert asked.truth == pytest.approx(value)
        assert asked.derivation.facts["value"] == pytest.approx(value)


def test_the_given_digits_are_enough_to_calculate_with():
    for seed in SEEDS:
        asked = exercise("output_weight", seed)
        given = {name.partition(" ")[0]: read(value) for name, value in asked.given}
        a, which = given["a"], "₁₂₃"[asked.place[1][0]]
        assert abs(a - given["target"]) > 0.149  # else of four digits one or two are left
        slope = a * (1 - a) if "sigmoid" in asked.question else 1 - a**2
        assert check(asked, f"{(a - given['target']) * float(f'{slope:.3g}') * given['x' + which]:.3g}").right
        hidden = exercise("hidden_error", seed)
        given = {name: read(value) for name, value in hidden.given}
        paths = [(given[f"y{s}"] - given[f"target {k}"], k) for k, s in ((1, "₁"), (2, "₂"))]
        j = hidden.place[1][0] + 1
        back = sum(error * given[f"w from hidden {j} to output {k}"] for error, k in paths)
        a = next(value for name, value in given.items() if name.startswith("a"))
        assert check(hidden, f"{back * a * (1 - a):.3g}").right


@pytest.mark.parametrize("kind", KINDS)
def test_factor_by_factor_finds_the_step_that_went_wrong(kind):
    asked = exercise(kind, 7)
    right = [f"{factor.value:.4g}" for factor in asked.factors]
    for i, factor in enumerate(asked.factors):
        verdict, done = check_factors(asked, right[:i])
        assert done == i and verdict.step == factor.name
        for wrong in [*(f"{m.value:.4g}" for m in factor.mistakes), f"{2.37 * factor.value + 3:.4g}"]:
            verdict, done = check_factors(asked, [*right[:i], wrong, *right[i + 1 :]])
            assert done == i and verdict.step == factor.name and factor.name in verdict.told
    verdict, done = check_factors(asked, right)
    assert done == len(right) and verdict.step == "the last step"


def test_the_same_seed_is_the_same_exercise_and_another_is_another():
    exercise.cache_clear()
    first = exercise("hidden_weight", 5)
    exercise.cache_clear()
    assert exercise("hidden_weight", 5).given == first.given
    assert len({exercise("hidden_weight", seed).truth for seed in SEEDS}) == len(SEEDS)
    assert {exercise("one_factor", seed).factors[0].name for seed in range(40)} == {"∂C/∂a", "∂a/∂z", "∂z/∂w"}
    assert "marked" in picture(first) and first.question
    for bad in (-1, 2**31):
        with pytest.raises(JaxpropError):
            exercise("update", bad)


@pytest.mark.parametrize(
    ("typed", "value"),
    [("−0,0337", -0.0337), ("-0.0337", -0.0337), ("3/8", 0.375), ("−1/3", -1 / 3), ("3.4e-2", 0.034), (".5", 0.5),
     ("3,4·10⁻²", 0.034), ("2 x 10^-3", 0.002), ("+1", 1.0), (" 7. ", 7.0), ("0,5/2", 0.25)],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(typed, value):
    assert read(typed) == pytest.approx(value)


@pytest.mark.parametrize(
    "typed", ["", "two", "1/0", "1.234,5", "1/2/3", "nan", "inf", "1e999", "__import__('os')", "5" * 99]
)
def test_what_is_no_number_is_said_in_words(typed):
    with pytest.raises(JaxpropError):
        read(typed)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_number_or_an_error(typed):
    try:
        assert np.isfinite(read(typed))
    except JaxpropError:
        pass


def test_close_answers_and_signs():
    assert judge(0.1005, 0.1, ()).right and judge(0.104, 0.1, ()).mistake == "rounding"
    assert judge(-0.1, 0.1, ()).mistake == "sign" and judge(0.5, 0.1, ()).mistake == ""


@pytest.mark.slow
def test_every_step_of_the_course_explains():
    assert [stage.chapter for stage in STAGES] == list(range(1, 9))
    for stage in STAGES:
        question = stage.question
        if isinstance(question, Choices):
            verdicts = [question.check(str(i)) for i in range(len(question.answers))]
            assert [v.told.startswith("Right.") for v in verdicts] == [v.right for v in verdicts]
            assert [v.right for v in verdicts].count(True) == 1 and "every parameter" in question.answers[
                question.right
            ][0]
            with pytest.raises(JaxpropError):
                question.check("9")
            continue
        assert isinstance(question, Question)
        truth, mistakes = question.known
        assert question.check(f"{truth:.4g}").right and question.why in question.check(f"{truth:.4g}").told
        for mistake in mistakes:
            verdict = question.check(f"{mistake.value:.5g}")
            assert not verdict.right and verdict.told == mistake.told, mistake
        assert not question.check("123.456").right


def test_the_course_on_the_page(session):
    opened = session()
    assert ask(opened, "course", number=1)["title"] == "The perceptron"
    assert ask(opened, "answer", number=2, answer="4/45")["right"]
    end = ask(opened, "course", number=9)
    assert len(end["learned"]) == 8 and all(docs.startswith("docs/chapters/") for _, _, docs in end["learned"])
    with pytest.raises(JaxpropError):
        ask(opened, "course", number=10)


class Reader(HTMLParser):
    """Collects what a page would load, and whether its elements are closed."""

    def __init__(self):
        super().__init__()
        self.loads, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]
        if tag not in ("meta", "img", "br", "link", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


def test_a_lesson_is_one_file_that_needs_nothing_else():
    written = html(17, {"factors": {"place": "w2"}})
    reader = Reader()
    reader.feed(written)
    assert not reader.open and not reader.loads and "<script" not in written
    assert "−0.033657" in written and "−0.10097" in written and "<math" in written
    assert "Of: w₂" in written and "Of: w₁" in html(17), "the numbers of the moment"
    assert "jax.grad" in written and "✗" not in written
    with pytest.raises(JaxpropError):
        html(23)


@functools.cache
def scaled(net):
    """The gradient of the squared errors of two outputs, each so many times."""

    def C(params, x, targets, scales):
        miss = (net(x, params) - targets)[0]
        return scales[0] * miss[0] ** 2 + scales[1] * miss[1] ** 2

    return jax.jit(jax.grad(C))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_typical_mistakes_are_what_their_names_say(seed):
    """By another way: a path is dropped from C itself, the input is left out where a bias has none, C is doubled."""
    asked = exercise("hidden_weight", seed)
    slips = {mistake.name: mistake.value for mistake in asked.mistakes}
    path, (i, j) = asked.place
    example = asked.example

    def gradient(*scales):
        return jax.device_get(by_path(scaled(example.net)(example.params, example.x, example.targets, scales)))

    assert slips["path 2 dropped"] == pytest.approx(float(gradient(0.5, 0.0)[path][i, j]))
    assert slips["path 1 dropped"] == pytest.approx(float(gradient(0.0, 0.5)[path][i, j]))
    assert slips["half"] == pytest.approx(float(gradient(1.0, 1.0)[path][i, j]))
    whole = gradient(0.5, 0.5)
    assert slips["input forgotten"] == pytest.approx(float(whole["0.b"][j]))
    assert slips["neighbour"] == pytest.approx(float(whole[path][i, 1 - j]))
    assert slips["other input"] == pytest.approx(float(whole[path][1 - i, j]))
    assert slips["weight for input"] == pytest.approx(float(whole["0.b"][j] * example.params[0].W[i, j]))
