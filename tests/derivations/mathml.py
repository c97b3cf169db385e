"""Reads MathML as a person would: evaluates what is drawn, without a look at the formula that it was made from."""

import math
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from jaxprop.derivations.functions import FUNCTIONS

CORE = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mfrac", "msup", "msub", "msubsup", "msqrt", "mover", "munder"),
    *("mtable", "mtr", "mtd"),
}
NAMES = {"σ": "sigmoid"}
SIGNS = {"+": 1.0, "−": -1.0}


def read(text: str) -> Element:
    """Parse MathML or HTML that is XML too, without the namespace, and check that only MathML Core is in its math."""
    root = ElementTree.fromstring(text)
    for node in root.iter():
        if node.tag.startswith("{"):
            node.tag = node.tag.partition("}")[2]
            assert node.tag in CORE, node.tag
    return root


def sides(equation: Element) -> list[Element]:
    """The sides of an equation, each as a row, whether it stands on one line or in a table."""
    (inside,) = equation
    found = [Element("mrow")]
    if inside.tag == "mrow":
        for part in inside:
            if part.tag == "mo" and part.text in ("=", "≈"):
                found.append(Element("mrow"))
            elif part.tag != "mtext":
                found[-1].append(part)
        return found
    for first, *more in inside:
        found[-1].extend(part for part in first if part.tag != "mtext")
        if more:
            sign, line = more
            found += [Element("mrow")] if len(sign) else []
            whole = _closed(line[0]) or "data-symbol" in line[0].attrib or line[0].tag != "mrow"
            found[-1].extend(line if whole else line[0])  # the lines of a side are one row
    return found


def value(node: Element, known: Mapping[str, float] | None = None) -> float:
    """The number that an element stands for."""
    known = known or {}
    if _is_symbol(node) and node.attrib["data-symbol"] in known:
        return known[node.attrib["data-symbol"]]
    parts = list(node)
    match node.tag:
        case "math":
            return value(parts[0], known)
        case "mn":
            return float(node.text or "")
        case "mi":
            return {"π": math.pi, "e": math.e}[node.text or ""]
        case "mfrac":
            return value(parts[0], known) / value(parts[1], known)
        case "msqrt":
            return math.sqrt(value(parts[0], known))
        case "msup":
            base = parts[0]
            alone = base.tag != "mrow" or _closed(base) or (len(base) == 3 and base[1].text == "\u2061")
            assert alone, "a power of what is not in parentheses"
            return math.pow(value(base, known), value(parts[1], known))
        case "msub":  # what is below says where: [9u²] with u = 5
            pairs = _split(list(parts[1]), ",")
            at = {pair[0].attrib["data-symbol"]: value(pair[2], known) for pair in pairs}
            return value(parts[0], {**known, **at})
        case "munder" if parts[0].text == "⋯":  # so many terms more, and what they add up to
            return value(parts[1][1], known)
        case "munder":  # a brace and words
            return value(parts[0], known)
    return _row(parts, known)


def _row(parts: list[Element], known: Mapping[str, float]) -> float:
    if parts and _closed(parts):
        inside = parts[1:-1]
        if parts[0].text == "|":
            return abs(_row(inside, known))
        if any(part.text == ">" for part in inside):
            left, right = (_row(side, known) for side in _split(inside, ">"))
            return (float(left > right) + float(left >= right)) / 2
        return _row(inside, known)
    total, sign, product, times = 0.0, 1.0, None, True
    rest = iter(list(_side_by_side(parts)))
    for part in rest:
        if part.tag == "mo" and part.text in SIGNS:
            total += 0.0 if product is None else sign * product
            sign, product, times = SIGNS[part.text], None, True
        elif part.tag == "mo":
            assert part.text in ("·", "×", "\u2062"), part.text
            times = True
        else:
            assert times, "two factors without a sign between them"
            found = _called(part, rest, known) if _is_function(part) else value(part, known)
            product, times = found if product is None else product * found, False
    return total + (0.0 if product is None else sign * product)


def _is_symbol(node: Element) -> bool:
    """Whether it is a symbol, and not a number in the place of one."""
    return "data-symbol" in node.attrib and any(letter.isalpha() for letter in "".join(node.itertext()))


def _side_by_side(parts: list[Element]) -> Iterator[Element]:
    """What stands on one line: a row within a row cannot be seen, only its parentheses can."""
    for part in parts:
        if part.tag == "mrow" and not _closed(part) and not _is_symbol(part):
            yield from _side_by_side(list(part))
        else:
            yield part


def _is_function(part: Element) -> bool:
    name = (part[0] if part.tag == "msub" else part).text or ""
    return "data-symbol" not in part.attrib and NAMES.get(name, name) in FUNCTIONS


def _called(part: Element, rest, known: Mapping[str, float]) -> float:
    name = f"{part[0].text}{part[1].text}" if part.tag == "msub" else part.text or ""
    assert next(rest).text == "\u2061"
    arguments = _split(list(next(rest))[1:-1], ",")
    return FUNCTIONS[NAMES.get(name, name)](*(_row(argument, known) for argument in arguments))


def _closed(parts) -> bool:
    return len(parts) > 1 and parts[0].tag == "mo" and parts[0].text in ("(", "[", "|")


def _split(parts: list[Element], sign: str) -> list[list[Element]]:
    found: list[list[Element]] = [[]]
    for part in parts:
        if part.tag == "mo" and part.text == sign:
            found.append([])
        else:
            found[-1].append(part)
    return found
