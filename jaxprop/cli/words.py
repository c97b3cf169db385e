"""What the library says to people who write Python, said to people who write in a shell."""

import re

SAID = {
    r"target=\.\.\.": "--target",
    r"features=\[\.\.\.\]": "--features",
    r"labels=True": "--labels",
    r"labels=False": "--numbers",
    r", or give its classes with classes=\[\.\.\.\]": "",
    r"\bvalidation(=| is )(?=[-\d.]|nan|inf)": "--validation ",
    r"\bslope is ": "--slope is ",
    r"\bnoise is ": "--noise is ",
    r"(?<=: )features (?=\[)": "--features ",
    r"unknown init ": "unknown --init ",
    r"unknown option of (\S+): '(\w+)'": r"\1 has no option --\2",
    r"needs (path|folder)=\.\.\., as in load\(.*": "is a kind of file: write the path of yours in its place",
    r"name your own in kinds=, or in the entry points": "offer your own in the entry points",
    r"pass the rows to use as data of their own": "name the rows to use with --data FILE",
}


def in_shell(text: str) -> str:
    """Return a message with the command's options where it has arguments of Python.

    >>> in_shell("my.csv: which column is the target? pass target=..., one of: a, b")
    'my.csv: which column is the target? pass --target, one of: a, b'
    >>> in_shell("make the column classes with labels=True")
    'make the column classes with --labels'
    """
    for python, shell in SAID.items():
        text = re.sub(python, shell, text)
    return text
