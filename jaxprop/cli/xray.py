"""`jaxprop xray`: the function that the command names, its arguments from a file, and what it says of mistakes."""

import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxprop.data.npz_file import BROKEN_ZIP
from jaxprop.errors import JaxpropError
from jaxprop.xray import Report, report
from jaxprop.xray.places import is_users


def function_of(text: str) -> Callable[..., Any]:
    """Return the function that "module:function" or "model.py:function" names; the current folder comes first."""
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise JaxpropError(f"{text}: expected module:function, such as model.py:loss or project.model:loss")
    found: Any = _module(place)
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, value in vars(found).items() if inspect.isfunction(value)]
            raise JaxpropError(f"{place} has no {name}; functions there: {', '.join(known) or 'none'}")
        found = getattr(found, part)
    if not callable(found):
        raise JaxpropError(f"{text}: expected a function, found {type(found).__name__}")
    return found


def _module(place: str) -> Any:
    path = Path(place)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise JaxpropError(f"{place}: there is no such file")
    folder = str((path.parent if is_file else Path()).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        if not is_file:
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        if not is_file and error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise JaxpropError(f"{place}: there is no such module here or installed; a file is model.py:loss") from None
        raise _theirs(place, "cannot be imported", error) from None
    except (Exception, SystemExit) as error:
        raise _theirs(place, "cannot be imported", error) from None


def _theirs(what: str, happened: str, error: BaseException) -> JaxpropError:
    """An error of the user's own code in a line, with the innermost place that is not a library's."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({Path(error.filename).name}:{error.lineno})"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        users = [frame for frame in frames if is_users(frame.filename)]
        where = f" ({Path(users[-1].filename).name}:{users[-1].lineno})" if users else ""
    said = str(error).strip().splitlines()
    return JaxpropError(f"{what} {happened}: {type(error).__name__}: {said[0] if said else 'nothing is said'}{where}")


def numbers(text: str) -> int | tuple[int, ...]:
    """Return the numbers that --argnums writes.

    >>> numbers("1"), numbers("0,2")
    (1, (0, 2))
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise JaxpropError(f"--argnums: found {text!r}, expected numbers such as 0 or 0,1") from None
    return found[0] if len(found) == 1 else found


def arguments(file: Path | None, f: Callable[..., Any], name: str) -> tuple[Any, ...]:
    """Return the arguments that a .npz holds, in the order in which f takes them."""
    given = {} if file is None else nested(_arrays(file))
    in_order = [f"arg{i}" for i in range(len(given))]
    if set(given) == set(in_order):
        found, named = [given[key] for key in in_order], {}
    else:
        found, named = [], given
    try:
        bound = inspect.signature(f).bind(*found, **named)
    except TypeError as error:
        taken = f"{name}{inspect.signature(f)}"
        said = f"{taken}: {error}; {file or 'no --args'} gives {', '.join(given) or 'nothing'}"
        raise JaxpropError(f"{said}: name the keys of --args arg0, arg1, ... or as the parameters") from None
    except ValueError:  # a function without a signature
        return tuple(found)
    if bound.kwargs:
        raise JaxpropError(f"{name}: {', '.join(bound.kwargs)} can be given by name only: wrap it in a function")
    return bound.args


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as read:
            return {key: read[key] for key in read.files}
    except FileNotFoundError:
        raise JaxpropError(f"{file}: there is no such file") from None
    except (*BROKEN_ZIP, OSError, ValueError, AttributeError, TypeError):
        raise JaxpropError(f"{file}: expected an .npz of plain arrays, as np.savez writes it") from None


def nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return dicts for keys with slashes; one whose keys are 0, 1, ... becomes a list.

    >>> nested({"x": 1, "params/Dense_0/kernel": 2, "layers/0": 3, "layers/1": 4})
    {'x': 1, 'params': {'Dense_0': {'kernel': 2}}, 'layers': [3, 4]}
    """
    whole: dict[str, Any] = {}
    for key, value in arrays.items():
        *folders, last = key.split("/")
        inside = whole
        for folder in folders:
            inside = inside.setdefault(folder, {})
            if not isinstance(inside, dict):
                raise JaxpropError(f"--args: {key} lies in {folder}, which is an array itself")
        if last in inside:
            raise JaxpropError(f"--args: {key} is there twice, as an array and as what holds others")
        inside[last] = value
    return {key: _lists(value) for key, value in whole.items()}


def _lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    tree = {key: _lists(value) for key, value in tree.items()}
    in_order = [str(i) for i in range(len(tree))]
    return [tree[key] for key in in_order] if set(tree) == set(in_order) else tree


def measured(
    f: Callable[..., Any], name: str, argnums: int | tuple[int, ...] | None, has_aux: bool, light: bool, args: Any
) -> Report:
    """Return the report of f; what f itself raises becomes one line."""
    try:
        return report(f, argnums, has_aux=has_aux, light=light)(*args)
    except JaxpropError:
        raise
    except Exception as error:
        raise _theirs(name, "does not run", error) from None


def read_report(file: Path) -> Report:
    """Read what --json wrote."""
    try:
        return Report.from_json(json.loads(file.read_text("utf-8")))
    except FileNotFoundError:
        raise JaxpropError(f"{file}: there is no such file; `jaxprop xray ... --json > {file}` writes one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, JaxpropError):
            raise JaxpropError(f"{file}: {error}") from None
        raise JaxpropError(f"{file}: expected what `jaxprop xray ... --json` writes") from None


def save_picture(found: Report, file: Path) -> None:
    """Write the picture of a report."""
    axes = found.plot()
    try:
        axes[0].figure.savefig(file)
    except (OSError, ValueError) as error:
        raise JaxpropError(f"--plot: {file} cannot be written: {error}") from None
