"""The surface panel: the cost over two directions, a ball that stands where θ does, and gradient descent on it.

The article's f(x, θ) = θ₁θ₂x at x = 1, target 2, comes first; every other view cuts the experiment's own θ. A ball
that is moved there sets θ, so that all panels follow.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from pydantic import Field

from jaxprop.arrays.paths import by_path
from jaxprop.errors import JaxpropError
from jaxprop_explorer.panels import plane as planes
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.panels.plane import Plane
from jaxprop_explorer.sessions import Session

View = Literal["article", "two", "random", "gradient", "path"]
FLAT = 1e-3  # a slope below it counts as the end of the way
LEVELS = 13
MOST_SET = 300  # numbers of θ that a ball on a cut through all of them sets
VIEWS = {
    "article": "the article's f = θ₁θ₂x at x = 1, target 2",
    "two": "two parameters of the network",
    "random": "two random directions",
    "gradient": "along and across the gradient",
    "path": "the plane of the next steps of descent",
}
SITUATIONS: dict[str, dict[str, Any]] = {
    "saddle": {"label": "On the saddle", "start": [0.0, 0.0], "rate": 0.1},
    "valley": {"label": "Into the valley", "start": [2.5, 0.25], "rate": 0.1},
    "overshooting": {"label": "Overshooting", "start": [3.0, 0.1], "rate": 0.24},
    "diverging": {"label": "Diverging", "start": [3.0, 0.1], "rate": 0.4},
}


class Look(Asked):
    """Which surface, and where the ball starts on it: where θ is, if not said."""

    view: View = "article"
    chosen: tuple[tuple[str, tuple[int, ...]], tuple[str, tuple[int, ...]]] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    rate: float = Field(default=0.1, ge=0, le=1e6)
    start: tuple[float, float] | None = None
    steps: int = Field(default=0, ge=0, le=500)


class Place(Asked):
    """Where the ball is put."""

    x: float = Field(ge=-1e6, le=1e6)
    y: float = Field(ge=-1e6, le=1e6)
    rate: float = Field(default=0.1, ge=0, le=1e6)


class Steps(Asked):
    """How many steps of gradient descent, and how long."""

    steps: int = Field(default=1, ge=1, le=500)
    rate: float = Field(default=0.1, ge=0, le=1e6)


@dataclass
class Ball:
    """What the panel keeps of a page: the plane, where the ball was and is, and whether it left all finite numbers."""

    view: View
    plane: Plane
    path: list[list[float]] = field(default_factory=list)  # [s, t, C]
    diverged: bool = False
    note: str = ""

    @property
    def at(self) -> np.ndarray:
        """The point `[2]` where the ball is."""
        return np.array(self.path[-1][:2])


def look(session: Session, asked: Look) -> dict[str, Any]:
    """Draw a surface: heights, levels, landmarks, the ball, and what stands to choose."""
    plane, note = _plane(session, asked)
    ball = session.memory["surface"] = Ball(asked.view, plane, note=note)
    here = np.zeros(2) if asked.view == "article" else plane.place(session.experiment.params)
    if asked.start is not None:
        here = np.array(asked.start)
    elif asked.view == "article":
        here = np.array(SITUATIONS["valley"]["start"])
    s, t, costs = planes.heights(plane)
    finite = costs[np.isfinite(costs)]
    if not finite.size:
        raise JaxpropError("the cost is not finite anywhere on this surface; reset the experiment")
    top = float(np.quantile(finite, 0.8)) if np.ptp(finite) > 0 else float(finite[0]) + 1.0
    costs = np.where(np.isfinite(costs), costs, finite.max())
    _put(session, ball, here, moves=asked.start is not None)
    _descend(session, ball, asked.steps, asked.rate)
    chosen = asked.chosen or _first_two(session) if asked.view == "two" else None
    return {
        "chosen": chosen, "view": asked.view, "title": VIEWS[asked.view], "names": list(plane.names), "note": note,
        "x": [float(s[0]), float(s[-1])], "y": [float(t[0]), float(t[-1])], "side": len(s),
        "heights": [float(f"{c:.5g}") for c in costs.ravel()],
        "low": float(costs.min()), "top": top, "levels": _levels(costs),
        "minima": _minima(plane.span[0]) if asked.view == "article" else [],
        "saddle": [0.0, 0.0] if asked.view == "article" else None,
        "views": VIEWS, "situations": SITUATIONS, "parameters": _parameters(session),
        **_told(session, ball, asked.rate),
    }  # fmt: skip


def place(session: Session, asked: Place) -> dict[str, Any]:
    """Put the ball somewhere: θ is there from now on, and the path begins anew."""
    ball = _ball(session)
    _put(session, ball, np.array([asked.x, asked.y]), moves=True)
    return _told(session, ball, asked.rate)


def step(session: Session, asked: Steps) -> dict[str, Any]:
    """Take some steps of gradient descent on the surface."""
    ball = _ball(session)
    _descend(session, ball, asked.steps, asked.rate)
    return _told(session, ball, asked.rate)


def _ball(session: Session) -> Ball:
    if "surface" not in session.memory:
        look(session, Look())
    return session.memory["surface"]


def _plane(session: Session, asked: Look) -> tuple[Plane, str]:
    if asked.view == "article":
        return planes.article(), ""
    experiment = session.experiment
    rows = slice(0, planes.MOST_ROWS)
    x, targets = jnp.asarray(experiment.rows.x[rows]), jnp.asarray(experiment.rows.targets[rows])
    given = (experiment.net, experiment.cost, x, targets, experiment.params)
    of = f"mean cost of {len(x)} of {len(experiment.rows.x)} examples"
    if asked.view == "two":
        chosen = asked.chosen or _first_two(session)
        return planes.of_two(*given, chosen), f"{of}; every other parameter stays as it is"
    if not _sets(session, asked.view):
        of += f"; of more than {MOST_SET} numbers, here {_numbers(session):,}, none is set: the ball only looks"
    if asked.view == "random":
        return planes.of_random(*given, asked.seed), f"{of}; 0 is where θ is now"
    if asked.view == "gradient":
        return planes.of_gradient(*given), f"{of}; 0 is where θ is now"
    plane, share = planes.of_path(*given, asked.rate)
    held = "over 99.9 %" if share > 0.9995 else f"{share:.1%}".replace("%", " %")
    return plane, f"{of}; this plane holds {held} of how the next {planes.AHEAD} steps spread"


def _first_two(session: Session) -> list[tuple[str, tuple[int, ...]]]:
    known = by_path(session.experiment.params).items()
    found = [(path, tuple(index)) for path, leaf in known for index in itertools.islice(np.ndindex(leaf.shape), 2)]
    if len(found) < 2:
        raise JaxpropError("this network has fewer than two parameters; choose the article's surface")
    return found[:2]


def _parameters(session: Session) -> list[dict[str, Any]]:
    return [{"path": path, "shape": list(leaf.shape)} for path, leaf in by_path(session.experiment.params).items()]


def _put(session: Session, ball: Ball, at: np.ndarray, *, moves: bool) -> None:
    """Begin a path at a point; with `moves`, the experiment's θ goes there."""
    value = float(planes.programs(ball.plane.net, ball.plane.cost).slope(_point(at), *ball.plane.arrays)[0])
    if not np.isfinite(value):
        raise JaxpropError(f"the cost is not finite at ({at[0]:g}, {at[1]:g}); put the ball where it is")
    ball.path, ball.diverged = [[float(at[0]), float(at[1]), value]], False
    if moves:
        _follow(session, ball)


def _descend(session: Session, ball: Ball, steps: int, rate: float) -> None:
    """θ ← θ − η ∂C/∂θ within the plane, until it leaves all finite numbers."""
    run = planes.programs(ball.plane.net, ball.plane.cost).slope
    for _ in range(steps):
        if ball.diverged:
            break
        after = ball.at - rate * np.asarray(run(_point(ball.at), *ball.plane.arrays)[1], np.float64)
        value = float(run(_point(after), *ball.plane.arrays)[0])
        if not (np.isfinite(after).all() and np.isfinite(value)):
            ball.diverged = True
        else:
            ball.path.append([*map(float, after), value])
    ball.path = ball.path[-1000:]
    if steps:
        _follow(session, ball)


def _follow(session: Session, ball: Ball) -> None:
    """Set the experiment's θ to where the ball is, and let its page know."""
    if not _sets(session, ball.view):
        return
    for path, index, value in _changes(session.experiment.params, ball.plane.theta(ball.at)):
        session.experiment.edit(path, index, value)
    session.publish("frame", session.frame())


def _sets(session: Session, view: View) -> bool:
    """Whether a ball on this view sets the experiment's θ."""
    return view == "two" or (view != "article" and _numbers(session) <= MOST_SET)


def _numbers(session: Session) -> int:
    return sum(leaf.size for leaf in by_path(session.experiment.params).values())


def _changes(before: PyTree, after: PyTree) -> list[tuple[str, tuple[int, ...], float]]:
    found, news = [], by_path(after)
    for path, leaf in by_path(before).items():
        old, new = np.asarray(leaf), np.asarray(news[path])
        found += [(path, tuple(map(int, index)), float(new[tuple(index)])) for index in np.argwhere(old != new)]
    return found


def _point(at: np.ndarray | float) -> Any:
    return jnp.asarray(at, jnp.result_type(float))


def _told(session: Session, ball: Ball, rate: float) -> dict[str, Any]:
    """The ball, its slope and curvature, the way behind it and ahead, and a sentence."""
    run = planes.programs(ball.plane.net, ball.plane.cost).around
    found = run(_point(ball.at), _point(rate), *ball.plane.arrays)
    value, slope, hessian, ahead = (np.asarray(part, np.float64) for part in found)
    values = np.linalg.eigvalsh(hessian) if np.isfinite(hessian).all() else np.full(2, np.nan)
    good = np.all(np.isfinite(ahead), axis=1)
    stop = len(good) if good.all() else int(np.argmin(good))
    return {
        "ball": {"x": float(ball.at[0]), "y": float(ball.at[1]), "cost": float(value)},
        "gradient": _finite(slope), "hessian": [_finite(row) for row in hessian], "eigenvalues": _finite(values),
        "path": ball.path, "ahead": ahead[:stop].tolist(),
        "steps": len(ball.path) - 1, "rate": rate, "diverged": ball.diverged,
        "version": session.experiment.version,
        "sentence": sentence(ball, rate, slope, values, ahead[0, 2]),
    }  # fmt: skip


def n(value: Any) -> str:
    """A number as a sentence has it, with three significant digits.

    >>> n(-0.027112), n(7.83e-5)
    ('−0.0271', '7.83 · 10⁻⁵')
    """
    text = f"{float(value):.3g}"
    whole, _, power = text.partition("e")
    if power:
        text = f"{whole} · 10{str(int(power)).translate(RAISED)}"
    return text.replace("-", "−")


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def sentence(ball: Ball, rate: float, slope: np.ndarray, values: np.ndarray, following: float) -> str:
    """What is to be seen, in words: a saddle, a minimum, a step that is too long, the end of all finite numbers."""
    value, low, high = ball.path[-1][2], values[0], values[-1]
    taken = len(ball.path) - 1
    limit = ""
    if high > FLAT:
        limit = f"Where C curves by {n(high)}, a rate above 2/{n(high)} = {n(2 / high)} overshoots further every time."
    if ball.diverged:
        begun = " → ".join(f"{n(cost)}" for *_, cost in ball.path[:4])
        return (
            f"Diverged: the steps overshot further and further. C went {begun} → …, and the step after these {taken} "
            f"led to no finite number. Choose a smaller η than {n(rate)}, and put the ball somewhere else."
        )
    size = float(np.linalg.norm(slope))
    curves = f"the Hessian's eigenvalues are {n(low)} and {n(high)}"
    if size < FLAT and low < -FLAT and high > FLAT:
        still = "The gradient is exactly 0" if size == 0 else f"The gradient is only {n(size)} long"
        end = "Gradient descent does not move from here" if size == 0 else "Gradient descent leaves it slowly"
        return f"A saddle. {still}, and {curves}: C falls in one direction and rises in the other. {end}."
    if size < FLAT:
        shape = "C rises in both directions"
        if low < -FLAT:
            shape = "C falls away slowly in one direction"
        elif low < FLAT:
            shape = "along the valley C stays the same" if high > FLAT else "it is flat all around"
        return f"The gradient is nearly 0 ({n(size)}), and {curves}: {shape}. After {taken} steps C is {n(value)}."
    if not np.isfinite(following):
        return f"The next step at η = {n(rate)} leaves all finite numbers. {limit}"
    if following > value:
        return (
            f"The step is too long: at η = {n(rate)} the next one raises C from {n(value)} to {n(following)}. {limit}"
        )
    fall = n(value - following)
    return f"Downhill: at η = {n(rate)} the next step lowers C, now {n(value)}, by {fall}; {curves} here."


def _levels(costs: np.ndarray) -> list[float]:
    """Heights of contour lines, spaced by logarithm where C is above 0."""
    low, top = float(costs.min()), float(costs.max())
    if not top > low:
        return []
    if low < 0:
        return np.linspace(low, top, LEVELS).tolist()
    return np.geomspace(max(low, top / 2000), top, LEVELS).tolist()


def _minima(span: tuple[float, float]) -> list[list[list[float]]]:
    """Both branches of θ₁θ₂ = 2 within the picture."""
    half = np.geomspace(2 / span[1], span[1], 60)
    return [np.stack([sign * half, sign * 2 / half], axis=1).tolist() for sign in (1, -1)]


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


COMMANDS = {
    "look": Command(look, Look),
    "place": Command(place, Place),
    "step": Command(step, Steps),
}
