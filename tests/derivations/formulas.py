"""Random formulas in one variable, as a person might type them."""

from hypothesis import strategies as st

from jaxprop.derivations.formula import Call, Constant, Formula, Negation, Number, Power, Product, Quotient, Sum, Symbol
from jaxprop.derivations.functions import FUNCTIONS

X = Symbol("x")
TYPED = sorted(name for name, function in FUNCTIONS.items() if function.typed)
ONE = [name for name in TYPED if len(FUNCTIONS[name].slopes) == 1]
TWO = [name for name in TYPED if len(FUNCTIONS[name].slopes) == 2]


def several(kind, part):
    return st.lists(part, min_size=2, max_size=3).map(lambda found: kind(tuple(found)))


def larger(part: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    exponents = st.sampled_from([Number(2), Number(3), Number(-1), Number(0.5), Number(0), X])
    return st.one_of(
        several(Sum, part),
        several(Product, part),
        st.builds(Quotient, part, part),
        st.builds(Power, part, exponents),
        st.builds(Negation, part),
        st.builds(Call, st.sampled_from(ONE), part),
        st.builds(Call, st.sampled_from(TWO), part, st.tuples(part)),
    )


LEAVES = st.one_of(
    st.just(X),
    st.just(X),
    st.integers(0, 9).map(Number),
    st.sampled_from([Number(0.25), Number(1e-7), Number(1 / 3), Constant("π"), Constant("e")]),
)
FORMULAS = st.recursive(LEAVES, larger, max_leaves=8)
POINTS = st.floats(-3, 3).map(lambda value: round(value, 3))
