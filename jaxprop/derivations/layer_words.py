"""What a layer does to an error on its way back, in a sentence for every kind of layer."""

from collections.abc import Callable
from typing import Any

from jaxprop import layers
from jaxprop.derivations.derivation import Prose
from jaxprop.derivations.formula import Number, Quotient
from jaxprop.derivations.question import is_ours
from jaxprop.derivations.tracing import Link
from jaxprop.layers.convolution import Convolution
from jaxprop.layers.norm import Norm
from jaxprop.layers.recurrent import Recurrent

RENAMED = (layers.Flatten, layers.Reshape, layers.Transpose)  # numbers in another order
PUSH = "how much, is what a push of this number alone through the layer shows (jax.jvp). "


def words_of(link: Link) -> Prose:
    """Return what happens on the way back through the layer of a link."""
    layer, many = link.node.layer, link.moves
    still = _still(many, many - link.count - sum(term.behind.error != 0 for term in link.terms))
    if not is_ours(layer):
        name = type(layer).__name__
        own = f"{name} is a layer of your own, and its formula is not known here: {PUSH}"
        return (own, *_sum(link, many), still)
    if not many and not isinstance(layer, layers.MaxPool | layers.Dropout):
        return _sum(link, many)
    table = INSIDE if link.kind == "inside" else ACROSS
    for kind, words in table:
        if isinstance(layer, kind):
            return (*words(link, many), still)
    return ("Numbers of the answer move with it; " + PUSH, *_sum(link, many), still)


def _still(many: int, idle: int) -> str:
    """Say that numbers behind move, and that the cost does not."""
    if idle == many > 1:
        return " The error of all of them is 0."
    return f" The error of {idle:,} of them is 0." if 0 < idle < many else ""


def _sum(link: Link, many: int) -> Prose:
    front = link.front.symbol
    if not many:
        return ("Nothing behind it moves with ", front, ", so no error comes back.")
    if many == 1:
        return ("One number of the answer moves with ", front, ", so its error comes back along one way.")
    return (f"{many:,} numbers of the answer move with ", front, ", so its error is a sum over them.")


def _linear(link: Link, many: int) -> Prose:
    if many == 1:
        return (link.front.symbol, " goes into one sum of this layer, with one weight.")
    return (link.front.symbol, f" goes into {many:,} sums of this layer, each time with a weight of its own.")


def _convolution(link: Link, many: int) -> Prose:
    if many == 1:
        return (link.front.symbol, " goes into one sum of this layer, with one number of the kernel.")
    words = f" goes into {many:,} sums of this layer, each time with another number of the kernel: its error is a sum "
    return (link.front.symbol, words, "over them.")


def _max_pool(link: Link, many: int) -> Prose:
    if not many:
        return ("No window has its largest number in ", link.front.symbol, ": a small change of it changes nothing.")
    if many == 1:
        words = (
            ". Only the largest number of a window goes on, so the error of the window is its error, and no other's."
        )
        return (link.front.symbol, " is the largest number of one window", words)
    words = ". Only the largest number of a window goes on, so the errors of these windows come back to it alone."
    return (link.front.symbol, f" is the largest number of {many:,} windows", words)


def _average(link: Link, many: int) -> Prose:
    return (link.front.symbol, f" is a part of {_count(many, 'mean')}, the same part as every number in it.")


def _dropout(link: Link, many: int) -> Prose:
    if not many:
        return (link.front.symbol, " was dropped in this pass, so no error comes back to it.")
    if link.terms[0].slope == 1:
        return ("Nothing is dropped in this pass: ", link.front.symbol, " goes on as it is, and so does its error.")
    rate = link.node.layer.rate  # pyright: ignore[reportAttributeAccessIssue]
    scale = Quotient(Number(1), 1 - Number(rate))
    return (link.front.symbol, " was kept in this pass and multiplied by ", scale, "; so is its error.")


def _norm(link: Link, many: int) -> Prose:
    means = "the mean and the spread" if link.node.layer.centred else "the spread"  # pyright: ignore
    return (
        *(link.front.symbol, f" moves its own normalised number directly, and through {means} of its group it moves "),
        f"all {many:,} numbers of the group: the two are counted together here, number by number.",
    )


def _attention(link: Link, many: int) -> Prose:
    return (
        *(link.front.symbol, " is a part of the query, the key and the value of its own position. Through the scores "),
        "of every position that looks there, the softmax and the mixing of values it reaches ",
        f"{_count(many, 'number')} of the answer.",
    )


def _inside_attention(link: Link, many: int) -> Prose:
    letter, front = link.front.name.letter, link.front.symbol
    what = {
        "q": "is a number of a query: it moves the scores of its own position, the softmax turns them into shares, and "
        "these mix the values",
        "k": "is a number of a key: it moves the score that every query which looks at it gives it, and the softmax "
        "moves all shares of that query with it",
        "v": "is a number of a value: every query which looks at it takes its share of it",
    }[letter]
    return (front, f" {what}. After the output weights it reaches {_count(many, 'number')} of the answer.")


def _recurrent(link: Link, many: int) -> Prose:
    return (link.front.symbol, " goes into all sums of its own step", *_through_time(link, many))


def _inside_recurrent(link: Link, many: int) -> Prose:
    layer, unit = link.node.layer, link.front.shown[-1]
    gates = GATES.get(type(layer), ("the state",))
    gate = gates[unit // layer.features % len(gates)]  # pyright: ignore[reportAttributeAccessIssue]
    return (
        link.front.symbol,
        f" is a part of the sum that {gate} is taken of, at its step",
        *_through_time(link, many),
    )


def _through_time(link: Link, many: int) -> Prose:
    """How far what happens at one step reaches: only the states that the layer answers count."""
    moves = "one number of the answer moves" if many == 1 else f"{many:,} numbers of the answer move"
    if link.front.at[1] == link.node.passed.x.shape[1] - 1:
        return (f", which is the last: {moves} with it.",)
    if not link.node.layer.sequence:  # pyright: ignore[reportAttributeAccessIssue]
        return (f", and the state carries it on to the last one, which is the answer: {moves} with it.",)
    return (f", and the state carries it on to all later ones: {moves} with it.",)


GATES = {
    layers.LSTM: ("the input gate", "the forget gate", "the candidate", "the output gate"),
    layers.GRU: ("the reset gate", "the update gate", "the candidate"),
}


def _renamed(link: Link, many: int) -> Prose:
    return (f"{type(link.node.layer).__name__} puts numbers in another order and changes none, so errors stay.",)


def _softmax(link: Link, many: int) -> Prose:
    return (link.front.symbol, " goes into every one of the outputs of softmax, for they share a total of 1.")


def _affine(link: Link, many: int) -> Prose:
    return (link.front.symbol, " is multiplied by the scale of its channel, and so is its error.")


def _added(link: Link, many: int) -> Prose:
    return (link.front.symbol, " has a row added to it, which does not matter to a slope: its error stays.")


def _count(many: int, what: str) -> str:
    return f"one {what}" if many == 1 else f"{many:,} {what}s"


Words = Callable[[Link, int], Prose]
ACROSS: tuple[tuple[Any, Words], ...] = (
    (layers.Linear, _linear),
    (Convolution, _convolution),
    (layers.MaxPool, _max_pool),
    ((layers.AvgPool, layers.GlobalAvgPool), _average),
    (layers.Dropout, _dropout),
    (Norm, _norm),
    (layers.MultiHeadAttention, _attention),
    (Recurrent, _recurrent),
    (RENAMED, _renamed),
    (layers.Softmax, _softmax),
    (layers.Affine, _affine),
    (layers.PositionalEmbedding, _added),
)
INSIDE: tuple[tuple[Any, Words], ...] = (
    (layers.MultiHeadAttention, _inside_attention),
    (Recurrent, _inside_recurrent),
)
