"""What the library says to people who write Python, said to people who write in a shell."""

import re
from collections.abc import Callable


def _features(found: re.Match[str]) -> str:
    names = found[1].replace("'", "").replace(", ", ",")
    return f"--features {names}" if names else "no --features"


def _no_option(found: re.Match[str]) -> str:
    known = [f"--{name}" for name in found[3].split(", ") if name not in NOT_IN_SHELL]
    return f"{found[1]} has no option --{found[2]}; known: {', '.join(known)}"


NOT_IN_SHELL = ("path", "folder", "rows")  # what a source takes in Python only
SAID: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"target=\.\.\.": "--target",
    r"features=\[\.\.\.\]": "--features",
    r"has_aux=True": "--has-aux",
    r"argnums=None": "--forward",
    r"labels=True": "--labels",
    r"labels=False": "--numbers",
    r", or give its classes with classes=\[\.\.\.\]": "",
    r"\bvalidation(=| is )(?=[-\d.]|nan|inf)": "--validation ",
    r"\bslope is ": "--slope is ",
    r"\bnoise is ": "--noise is ",
    r"(?<=: )features \[(.*?)\]": _features,
    r"unknown init ": "unknown --init ",
    r"unknown option of (\S+): '(\w+)'.*?; known: ([\w, ]+)": _no_option,
    r"give each its value by at: ": "give each its value with --at ",
    r"^row (?=-?\d+: there are)": "--row ",
    r"unknown picture suffix \(.*?\)": "unknown ending of --out",
    r"needs (path|folder)=\.\.\., as in load\(.*": "is a kind of file: write the path of yours in its place",
    r"name your own in kinds=, or in the entry points": "offer your own in the entry points",
    r"say resume=True to go on with it, or give another folder": "say --resume to go on, or --checkpoints with another",
    r"give arrays, such as np.load\(file\)\[:\]": "name one file that is read whole, such as a .csv or .npz",
    r"pass the rows to use as data of their own": "name the rows to use with --data FILE",
}


def in_shell(text: str) -> str:
    """Return a message with the command's options where it has arguments of Python.

    >>> in_shell("my.csv: which column is the target? pass target=..., one of: a, b")
    'my.csv: which column is the target? pass --target, one of: a, b'
    >>> in_shell("make the column classes with labels=True")
    'make the column classes with --labels'
    >>> in_shell("my.csv: features ['a', 'b'], target 'b'")
    "my.csv: --features a,b, target 'b'"
    >>> in_shell("unknown option of xor: 'slope'; known: noise, rows, seed")
    'xor has no option --slope; known: --noise, --seed'
    >>> in_shell("to have several, give each its value by at: x=2,y=5")
    'to have several, give each its value with --at x=2,y=5'
    >>> in_shell("unknown picture suffix (path must end in one of these) '.bmp'; known: .png, .svg")
    "unknown ending of --out '.bmp'; known: .png, .svg"
    """
    for python, shell in SAID.items():
        text = re.sub(python, shell, text)
    return text
