"""`jaxprop predict`: what a saved model answers for some rows, here or on a server (`--url`)."""

from pathlib import Path
from typing import Annotated

import typer

from jaxprop.errors import JaxpropError, pick

EXAMPLE = (
    "Examples: `jaxprop predict runs/digits --data digits --rows 0:5` · "
    "`jaxprop predict runs/my --data new.csv --out answers.csv` · "
    "`jaxprop predict runs/my --data new.csv --json` · "
    "`jaxprop predict runs/digits --url http://127.0.0.1:8000` (ask `jaxprop serve runs/digits`)"
)


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model; with --url and --data also just its name.")],
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    rows: Annotated[
        str | None, typer.Option(help="Which rows: 0:5, 7 or 1,4,7; 0:10 by default, with --out every row.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the rows with their predictions: .csv, .json, .jsonl or .parquet.")
    ] = None,
    part: Annotated[str, typer.Option(help="validation (held-out rows) or training.")] = "validation",
    url: Annotated[str | None, typer.Option(help="Ask this server instead, e.g. http://127.0.0.1:8000.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name on the server; RUN's by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Predict rows with the model in RUN. Raw rows go in: preprocessing is part of the network."""
    import numpy as np

    from jaxprop.cli import remote
    from jaxprop.cli.predict import beside_truth, columns_with, numbers_of, outputs_of, predictions, table
    from jaxprop.cli.runs import open_run, print_json, rows_of
    from jaxprop.cli.written import writer

    pick(part, ("validation", "training"), "--part")
    if model is not None and url is None:
        raise JaxpropError("--model names a model on a server: pass --url too")
    rows = rows if rows is not None else "0:10" if out is None else ":"
    write = None if out is None else writer(out)
    if url is not None and out is not None:
        raise JaxpropError("--out: writes what a saved model answers here; leave --url out")
    saved = None if url is not None and data is not None and not run.exists() else open_run(run)
    if saved is None:
        chosen, classes = remote.rows_without_a_run(data or "", rows, part)
    else:
        chosen, classes = rows_of(saved, data, rows, part, needs_targets=False), saved.about.info.classes
    target = None if saved is None else saved.about.info.target
    if write is not None and saved is not None:
        count = len(chosen.numbers)
        write(columns_with(chosen, outputs_of(saved, chosen), classes, target))
        said = {"model": str(run), "data": chosen.source, "out": str(out), "rows": count}
        print_json(said) if json else print(f"{run} on {chosen.source}: {count:,} rows with predictions in {out}")
        return
    if url is not None:
        name = remote.model_name(url, model, run.resolve().name)
        found = remote.predict(url, name, chosen.x)
        if saved is not None:
            found["rows"] = numbers_of(saved.about.cost, np.asarray(found["rows"], np.float32))
        answers = beside_truth(found, chosen, classes)
        run = Path(name)
    else:
        assert saved is not None
        answers = predictions(saved, chosen)
    if json:
        print_json({"model": str(run), "data": chosen.source, "predictions": answers})
    else:
        print(f"{run} on {chosen.source}")
        print(table(answers, target))
