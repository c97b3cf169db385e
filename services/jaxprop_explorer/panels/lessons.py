"""The lessons panel: lessons with interactions, exercises that say which step went wrong, and a course."""

from dataclasses import asdict
from typing import Any

import jax
import numpy as np
from pydantic import Field

from jaxprop.backward import manual
from jaxprop.derivations import Derivation, to_mathml, to_text
from jaxprop.derivations.derivation import Equation
from jaxprop.errors import JaxpropError
from jaxprop.network import by_path
from jaxprop_explorer.lessons import CHAPTERS, LESSONS, Lesson, exercises, lesson
from jaxprop_explorer.lessons.answers import Verdict
from jaxprop_explorer.lessons.course import STAGES, Choices, stage
from jaxprop_explorer.lessons.document import html
from jaxprop_explorer.lessons.mistakes import ELSEWHERE, of_lesson
from jaxprop_explorer.lessons.notation import article
from jaxprop_explorer.lessons.parts import Shown, Try, number
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.sessions import Session

MOST_NUMBERS = 200  # of θ that a step with a chosen sign may change, each an entry of the history


class Which(Asked):
    """A lesson, and whether its formulas are in the article's notation."""

    number: int
    article: bool = False


class Saved(Asked):
    """A lesson, and what the controls of its interactions stand at."""

    number: int
    values: dict[str, dict[str, float | str | list[str]]] = {}


class Interact(Asked):
    """The values of an interaction's controls."""

    number: int
    widget: str = Field(max_length=40)
    values: dict[str, float | str | list[str]] = {}


class Exercise(Asked):
    """An exercise: its kind, and the number that its network is drawn from."""

    kind: str = Field(max_length=40)
    seed: int


class Answer(Exercise):
    """An answer as it was typed."""

    answer: str = Field(max_length=100)


class Factors(Exercise):
    """The factors as far as they were typed."""

    answers: list[str] = Field(max_length=8)


class Stage(Asked):
    """A step of the course, from 1."""

    number: int


class StageAnswer(Stage):
    """The answer to its question: a number as typed, or which of the choices."""

    answer: str = Field(max_length=100)


class Follow(Asked):
    """The sign of a step for the network on the page: minus descends, plus is the article's."""

    sign: str = Field(pattern="^(minus|plus)$")


def index(session: Session, asked: Asked) -> dict[str, Any]:
    """Return what there is: the lessons by chapter, the kinds of exercise, and the steps of the course."""
    chapters = [
        {"number": i, "title": STAGES[i - 1].title, "lessons": [_named(each) for each in chapter.LESSONS]}
        for i, chapter in enumerate(CHAPTERS, 1)
    ]
    kinds = [[name, title] for name, (title, _) in exercises.KINDS.items()]
    return {"chapters": chapters, "kinds": kinds, "stages": [each.title for each in STAGES]}


def open_(session: Session, asked: Which) -> dict[str, Any]:
    """Return a lesson as far as nothing has to be computed: words, controls, tries, mistakes and the setting."""
    found = lesson(asked.number)
    order = list(LESSONS)
    at = order.index(found.number)
    return {
        **_named(found),
        "chapter": found.chapter,
        "quote": found.quote,
        "paragraphs": list(found.paragraphs),
        "has_formulas": found.formulas is not None,
        "widgets": [
            {"name": w.name, "title": w.title, "controls": [c.json() for c in w.controls]} for w in found.widgets
        ],
        "tries": [_try(each) for each in found.tries],
        "mistakes": [
            {"number": i if i < ELSEWHERE else None, "said": each.said, "right": each.right, "try": _try(each.shown)}
            for i, each in of_lesson(found.number).items()
        ],
        "anchors": [[each.what, number(each.expected, each.digits)] for each in found.anchors],
        "setup": _setup(found),
        "before": order[at - 1] if at else None,
        "after": order[at + 1] if at + 1 < len(order) else None,
    }


def formulas(session: Session, asked: Which) -> dict[str, Any]:
    """Return the formulas of a lesson with their numbers."""
    found = lesson(asked.number).formulas
    with jax.enable_x64(True):
        written = found() if found is not None else ()
    return {"formulas": [_formula(article(each) if asked.article else each) for each in written]}


def anchors(session: Session, asked: Which) -> dict[str, Any]:
    """Return the numbers to check as the library finds them, and whether they are the expected ones."""
    found = lesson(asked.number).anchors
    return {"anchors": [{"found": number(each.found()), "holds": each.holds} for each in found]}


def show(session: Session, asked: Interact) -> dict[str, Any]:
    """Return what an interaction shows for these values."""
    return _shown(lesson(asked.number).widget(asked.widget).show(dict(asked.values)))


def exercise(session: Session, asked: Exercise) -> dict[str, Any]:
    """Return a question, and the numbers that are given."""
    found = exercises.exercise(asked.kind, asked.seed)
    return {
        "kind": found.kind,
        "seed": found.seed,
        "title": exercises.KINDS[found.kind][0],
        "question": found.question,
        "given": [list(pair) for pair in found.given],
        "factors": [factor.name for factor in found.factors],
        "picture": exercises.picture(found),
    }


def check(session: Session, asked: Answer) -> dict[str, Any]:
    """Say whether an answer is right, and if not, which step went wrong."""
    found = exercises.exercise(asked.kind, asked.seed)
    verdict = exercises.check(found, asked.answer)
    return _verdict(verdict) | {"apart": not verdict.right and not verdict.mistake, "ask": found.factors[0].ask}


def factors(session: Session, asked: Factors) -> dict[str, Any]:
    """Check the factors one by one: the first wrong one is the step that went wrong."""
    verdict, right = exercises.check_factors(exercises.exercise(asked.kind, asked.seed), asked.answers)
    return _verdict(verdict) | {"done": right}


def reveal(session: Session, asked: Exercise) -> dict[str, Any]:
    """Return the answer, and the whole way to it."""
    found = exercises.exercise(asked.kind, asked.seed)
    return {"answer": number(found.truth), "way": _formula(found.derivation)}


def course(session: Session, asked: Stage) -> dict[str, Any]:
    """Return a step of the course and its question; after the last one, what was learned."""
    if asked.number == len(STAGES) + 1:
        return {
            "number": asked.number,
            "of": len(STAGES),
            "learned": [[each.title, each.learned, each.docs] for each in STAGES],
        }
    found = stage(asked.number)
    answers = [words for words, _ in found.question.answers] if isinstance(found.question, Choices) else None
    return {
        "number": asked.number,
        "of": len(STAGES),
        "title": found.title,
        "paragraphs": list(found.paragraphs),
        "lessons": [_named(lesson(each)) for each in found.lessons],
        "question": found.question.words,
        "answers": answers,
        "docs": found.docs,
    }


def answer(session: Session, asked: StageAnswer) -> dict[str, Any]:
    """Say whether the answer to a step's question is right, and explain."""
    return _verdict(stage(asked.number).question.check(asked.answer))


def follow(session: Session, asked: Follow) -> dict[str, Any]:
    """Take a step of all of θ with the chosen sign, on all rows, and say what becomes of C."""
    experiment = session.experiment
    known = by_path(experiment.params)
    if sum(np.size(leaf) for leaf in known.values()) > MOST_NUMBERS:
        raise JaxpropError(f"this network has more than {MOST_NUMBERS} numbers; set up the lesson's network first")
    run = jax.jit(manual.value_and_grad(experiment.net, experiment.cost))
    x, targets = np.asarray(experiment.rows.x), np.asarray(experiment.rows.targets)
    before, grads = run(x, experiment.params, targets)
    rate = experiment.settings.learning_rate or 0.1
    signed = rate if asked.sign == "minus" else -rate
    for path, slope in by_path(grads).items():
        for at in np.ndindex(*np.shape(slope)):
            experiment.edit(path, at, float(np.asarray(known[path])[at] - signed * np.asarray(slope)[at]))
    after = float(run(x, experiment.params, targets)[0])
    moves = "rises" if after > before else "falls"
    sign = "−" if asked.sign == "minus" else "+"
    told = f"θ ← θ {sign} {number(rate)}·∂C/∂θ: C went from {number(float(before))} to {number(after)}. It {moves}."
    frame = session.frame()
    session.publish("frame", frame)
    return {"told": told, "before": float(before), "after": after, "frame": frame}


def save(session: Session, asked: Saved) -> dict[str, Any]:
    """Return a lesson as one HTML file that opens without a server."""
    return {"name": f"lesson-{lesson(asked.number).number}.html", "html": html(asked.number, asked.values)}


def _named(each: Lesson) -> dict[str, Any]:
    mistakes = [i for i in of_lesson(each.number) if i < ELSEWHERE]
    return {"number": each.number, "title": each.title, "corrects": mistakes}


def _try(each: Try) -> dict[str, Any]:
    return {"label": each.label, "widget": each.widget, "values": dict(each.values)}


def _setup(found: Lesson) -> dict[str, Any]:
    setup = found.setup
    return {
        "settings": dict(setup.settings),
        "history": _edits(found),
        "panel": setup.panel,
        "selected": setup.selected and dict(setup.selected),
        "words": setup.words,
    }


def _edits(found: Lesson) -> list[dict[str, Any]]:
    """θ of a lesson as changes before the first step, as an address holds them."""
    return [
        {"at": 0, "edit": [path, list(at), float(np.asarray(leaf, float)[at])]}
        for path, leaf in found.setup.theta.items()
        for at in np.ndindex(*np.shape(leaf))
    ]


def _formula(node: Equation | Derivation) -> dict[str, Any]:
    title = to_text(Derivation(node.title, ())) if isinstance(node, Derivation) else ""
    return {"mathml": to_mathml(node, heading=4), "title": title}


def _shown(shown: Shown) -> dict[str, Any]:
    return {
        "words": shown.words,
        "numbers": dict(shown.numbers),
        "picture": shown.picture,
        "beside": shown.beside,
        "said": shown.said,
        "rows": [list(row) for row in shown.rows],
        "code": shown.code,
        "formulas": [_formula(each) for each in shown.formulas],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return asdict(verdict)


COMMANDS = {
    "index": Command(index, locked=False),
    "open": Command(open_, Which, locked=False),
    "formulas": Command(formulas, Which, locked=False),
    "anchors": Command(anchors, Which, locked=False),
    "show": Command(show, Interact, locked=False),
    "exercise": Command(exercise, Exercise, locked=False),
    "check": Command(check, Answer, locked=False),
    "factors": Command(factors, Factors, locked=False),
    "reveal": Command(reveal, Exercise, locked=False),
    "course": Command(course, Stage, locked=False),
    "answer": Command(answer, StageAnswer, locked=False),
    "follow": Command(follow, Follow),
    "save": Command(save, Saved, locked=False),
}
