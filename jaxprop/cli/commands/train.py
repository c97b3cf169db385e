"""`jaxprop train`: rows in, a saved model out."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxprop.cli import choices
from jaxprop.errors import JaxpropError

EXAMPLE = (
    "Examples: `jaxprop train digits --layers 64,32,10 --activation sigmoid --out runs/digits` · "
    "`jaxprop train square --layers 1,16,1 --activation tanh` · `jaxprop train line --slope 2` · "
    "`jaxprop train my.csv --target price` · `jaxprop train digits --mesh data=-1 --resume`"
)

DEFAULT_STEPS = 3000
_ACTIVATIONS, _COSTS = ", ".join(choices.ACTIVATIONS), ", ".join(choices.COSTS)

NETWORK, STEPS, ROWS = "Network and cost", "Steps", "Rows"  # groups of options
SEEN, GOING_ON, DEVICES = "What is seen of it", "Going on later", "Devices"

Option = typer.Option


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained on what, and how; what is left out is as `jaxprop train` has it by default."""

    data: str
    options: dict[str, Any] = field(default_factory=dict)  # of the data's source
    layers: str | None = None
    activation: str | None = None
    output_activation: str | None = None
    cost: str | None = None
    optimizer: str = "adam"
    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int = 32
    seed: int = 0
    grad: str = "auto"
    precision: str | None = None
    init: str = "glorot_uniform"
    bias: bool | None = None
    standardize: bool | None = None
    patience: int | None = None
    monitor: str | None = None
    every: int = 20
    explore: bool = False
    log: tuple[Path, ...] = ()
    report: bool = False
    checkpoints: Path | None = None
    resume: bool = False
    mesh: str | None = None
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    out: Path
    progress: bool = True

    @property
    def rate(self) -> float:
        """The learning rate."""
        from jaxprop.cli import build

        return build.suggested(self.data).learning_rate if self.learning_rate is None else self.learning_rate


def command(
    data: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(choices.SOURCES)}; a .csv, .parquet or .npz file; a folder with MNIST's IDX files; rows "
            "that stay in their files: x.npy, .array_record, a folder of these, or a pattern such as 'rows/*.csv'"
        ),
    ],
    layers: Annotated[
        str | None, Option(rich_help_panel=NETWORK, help="Units: inputs, hidden layers, outputs, e.g. 64,32,10.")
    ] = None,
    activation: Annotated[
        str | None,
        Option(
            rich_help_panel=NETWORK,
            help=f"Of the hidden layers: tanh; gelu for spirals and files of tables. One of {_ACTIVATIONS}.",
        ),
    ] = None,
    output_activation: Annotated[
        str | None, Option(rich_help_panel=NETWORK, help="Of the output, one of the same; none unless given.")
    ] = None,
    cost: Annotated[
        str | None,
        Option(
            rich_help_panel=NETWORK,
            help=f"Labels: softmax_cross_entropy; numbers: half_squared_error. One of {_COSTS}.",
        ),
    ] = None,
    optimizer: Annotated[str, Option(rich_help_panel=STEPS, help=f"{', '.join(choices.OPTIMIZERS)}.")] = Plan.optimizer,
    learning_rate: Annotated[
        float | None, Option(rich_help_panel=STEPS, help="Step size η: 0.01; 0.003 for files of tables.")
    ] = None,
    epochs: Annotated[
        int | None, Option(min=1, rich_help_panel=STEPS, help="Times through the rows; by default about 3,000 steps.")
    ] = None,
    batch_size: Annotated[int, Option(min=1, rich_help_panel=STEPS, help="Rows a step.")] = Plan.batch_size,
    seed: Annotated[
        int,
        Option(
            min=0,
            max=2**32 - 1,
            rich_help_panel=STEPS,
            help="Of the first weights and the order of rows; the rows stay the same.",
        ),
    ] = Plan.seed,
    grad: Annotated[
        str, Option(rich_help_panel=STEPS, help="auto (jax.grad) or manual (the chain rule by hand).")
    ] = Plan.grad,
    precision: Annotated[
        str | None,
        Option(
            rich_help_panel=STEPS,
            help="Steps in bfloat16 or float16 (θ in float32), float32 or float64; by default as the rows are.",
        ),
    ] = None,
    init: Annotated[
        str, Option(rich_help_panel=NETWORK, help=f"Initialiser of W: {', '.join(choices.INITIALIZERS)}.")
    ] = Plan.init,
    bias: Annotated[
        bool | None, Option("--bias/--no-bias", rich_help_panel=NETWORK, help="On, except for `line`.")
    ] = None,
    standardize: Annotated[
        bool | None,
        Option(
            "--standardize/--raw", rich_help_panel=NETWORK, help="A Standardize layer first; on for tables and digits."
        ),
    ] = None,
    target: Annotated[str | None, Option(rich_help_panel=ROWS, help="CSV: the column to predict.")] = None,
    features: Annotated[
        str | None,
        Option(
            rich_help_panel=ROWS, help="CSV: the columns to predict from, separated by commas; all others by default."
        ),
    ] = None,
    labels: Annotated[
        bool | None,
        Option("--labels/--numbers", rich_help_panel=ROWS, help="CSV: whether the target's values are classes."),
    ] = None,
    slope: Annotated[float | None, Option(rich_help_panel=ROWS, help="line: k in y = kx.")] = None,
    noise: Annotated[float | None, Option(rich_help_panel=ROWS, help="xor, moons, spirals, ball: how noisy.")] = None,
    validation: Annotated[
        float | None,
        Option(rich_help_panel=ROWS, help="Share of rows held out, or from 1 on their number; a fifth by default."),
    ] = None,
    patience: Annotated[
        int | None,
        Option(
            min=1,
            rich_help_panel=STEPS,
            help="Stop after so many epochs without a better validation cost; 20 for a file of a table.",
        ),
    ] = None,
    monitor: Annotated[
        str | None,
        Option(
            rich_help_panel=SEEN, help=f"What to record, as monitor.csv in the folder: {', '.join(choices.MONITORED)}."
        ),
    ] = None,
    every: Annotated[
        int | None,
        Option(
            min=1, rich_help_panel=SEEN, help=f"monitor: how many steps lie between records; {Plan.every} by default."
        ),
    ] = None,
    explore: Annotated[
        bool,
        Option(
            "--explore",
            rich_help_panel=SEEN,
            help="A page in the browser to watch it on while it trains; its address is printed.",
        ),
    ] = False,
    log: Annotated[
        list[Path] | None,
        Option(
            rich_help_panel=SEEN, help="A file that gets a line an epoch, .csv or .jsonl; may be given several times."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, Option(rich_help_panel=SEEN, help="A folder for TensorBoard to read.", metavar="DIR")
    ] = None,
    report: Annotated[
        bool,
        Option("--report", rich_help_panel=SEEN, help="Write report.html and training.png in the folder of the model."),
    ] = False,
    checkpoints: Annotated[
        Path | None,
        Option(
            rich_help_panel=GOING_ON, help="Folder that keeps the run as it goes on; OUT/checkpoints with --resume."
        ),
    ] = None,
    resume: Annotated[
        bool,
        Option(
            "--resume",
            rich_help_panel=GOING_ON,
            help="Go on with the run that the folder keeps; begin one where it keeps none.",
        ),
    ] = False,
    mesh: Annotated[
        str | None,
        Option(
            rich_help_panel=DEVICES,
            help="Devices to train on: data=8, fsdp=8 or data=4,model=2; -1 for all that are left. One by default.",
        ),
    ] = None,
    distributed: Annotated[
        bool,
        Option(
            "--distributed",
            rich_help_panel=DEVICES,
            help="One of several processes that train together; SLURM and others are detected.",
        ),
    ] = False,
    coordinator: Annotated[
        str | None,
        Option(rich_help_panel=DEVICES, help="distributed: where all can reach process 0.", metavar="HOST:PORT"),
    ] = None,
    processes: Annotated[
        int | None, Option(min=1, rich_help_panel=DEVICES, help="distributed: how many there are.")
    ] = None,
    process: Annotated[
        int | None, Option(min=0, rich_help_panel=DEVICES, help="distributed: which this is, from 0.")
    ] = None,
    out: Annotated[Path | None, Option(help="Folder of the saved model; runs/DATA by default.")] = None,
    json: Annotated[bool, Option("--json", help="The result as JSON on stdout; progress stays on stderr.")] = False,
    quiet: Annotated[bool, Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network on DATA and save it."""
    from jaxprop.cli.job import joined
    from jaxprop.cli.runs import print_json
    from jaxprop.cli.train import run

    if not distributed and not coordinator is processes is process is None:
        raise JaxpropError("--coordinator, --processes and --process are of a job of several: write --distributed too")
    if every is not None and monitor is None:
        raise JaxpropError(f"--every {every} says how often to record, and --monitor what: write --monitor noise,norms")
    columns = None if features is None else [name.strip() for name in features.split(",")]
    held = int(validation) if validation and validation >= 1 and validation.is_integer() else validation
    asked = dict(target=target, features=columns, labels=labels, slope=slope, noise=noise, validation=held)
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    out = out or Path("runs") / _named(Path(data))
    plan = Plan(
        data=data, options=options, layers=layers, activation=activation, output_activation=output_activation,
        cost=cost, optimizer=optimizer, learning_rate=learning_rate, epochs=epochs, batch_size=batch_size, seed=seed,
        grad=grad, precision=precision, init=init, bias=bias, standardize=standardize, patience=patience,
        monitor=monitor, every=every or Plan.every, explore=explore,
        log=tuple([*(log or ()), *([] if tensorboard is None else [tensorboard])]), report=report,
        checkpoints=checkpoints or (out / "checkpoints" if resume else None), resume=resume,
        distributed=distributed, coordinator=coordinator, processes=processes, process=process,
        mesh=mesh, out=out, progress=not quiet,
    )  # fmt: skip
    with joined(plan):
        outcome = run(plan)
    if not outcome.speaks:
        pass
    elif json:
        print_json({"out": str(plan.out), **outcome.summary})
    else:
        print(outcome.text)
    if outcome.interrupted:
        sys.exit(128 + outcome.interrupted)


def _named(data: Path) -> str:
    """What a run on some data is called: of a pattern such as rows/*.csv the folder's name."""
    return data.parent.name or "rows" if set("*?[") & set(data.name) else data.stem
