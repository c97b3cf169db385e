"""`jaxprop predict`: what a saved model answers for some rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = (
    "Examples: `jaxprop predict runs/digits --data digits --rows 0:5` · `jaxprop predict runs/my --data new.csv --json`"
)


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    rows: Annotated[str, typer.Option(help="Which rows: 0:5, 7 or 1,4,7.")] = "0:10",
    part: Annotated[str, typer.Option(help="validation (held-out rows) or training.")] = "validation",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Predict rows with the model in RUN. Raw rows go in: preprocessing is part of the network."""
    from jaxprop.cli.runs import open_run, print_json, rows_of
    from jaxprop.errors import pick

    saved = open_run(run)
    pick(part, ("validation", "training"), "--part")
    chosen = rows_of(saved, data, rows, part)
    answers = predictions(saved, chosen)
    if json:
        print_json({"model": str(run), "data": chosen.source, "predictions": answers})
    else:
        print(f"{run} on {chosen.source}")
        print(table(answers))


def predictions(saved: Any, chosen: Any) -> list[dict[str, Any]]:
    """One dict a row: the label with its probability, or the numbers; and the truth, where it is known."""
    import jax
    import numpy as np

    from jaxprop.costs import SoftmaxCrossEntropy
    from jaxprop.train import predict

    y = predict(saved.net, saved.params, chosen.x)
    classes = saved.about.info.classes
    answers = []
    for i, number in enumerate(chosen.numbers):
        answer: dict[str, Any] = {"row": number}
        truth = None if chosen.targets is None else chosen.targets[i]
        if classes:
            label = int(np.argmax(y[i]))
            answer["prediction"] = classes[label]
            if isinstance(saved.about.cost, SoftmaxCrossEntropy):
                answer["probability"] = round(float(jax.nn.softmax(y[i])[label]), 6)
            if truth is not None:
                answer |= {"target": classes[int(truth)], "right": classes[int(truth)] == classes[label]}
        else:
            answer["prediction"] = _plain(y[i])
            if truth is not None:
                answer["target"] = _plain(truth)
        answers.append(answer)
    return answers


def table(answers: list[dict[str, Any]]) -> str:
    """Predictions for people."""
    columns = [key for key in ("row", "prediction", "probability", "target") if key in answers[0]]
    lines = [columns]
    for answer in answers:
        cells = [_cell(answer[key]) for key in columns]
        lines.append([*cells, "← wrong"] if answer.get("right") is False else cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    padded = [[cell.ljust(w) for cell, w in zip(line, [*widths, 0], strict=False)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_cell, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(values: Any) -> Any:
    import numpy as np

    flat = [float(str(v)) for v in np.ravel(values)]  # the shortest digits that say the same float32
    return flat[0] if len(flat) == 1 else flat
