"""One table of what an accelerator makes of jaxprop, in at most eight minutes: run it on any CUDA machine with JAX.

    python tests/benchmarks/accelerator.py [--minutes 8] [--json FILE] [--quick | --full] [--only PART]

    battery     `jp.check_layer` of every layer of tests/cases, one of each kind first; every cost and network by hand
                against `jax.grad`, with the platform's row of the tolerance table; products at the highest precision
    roofline    the device's own peaks, measured: a large product in float32 and in bfloat16, and a large copy. Then a
                step of each network, by hand, in both: the time that its operations or its fewest bytes need at those
                peaks ÷ the time that it takes
    networks    value and gradient by hand ÷ `jax.grad`: time, and XLA's temporary memory. float32
    fit         `jp.fit` ÷ the plainest scan in raw JAX, on four workloads
    quantities  gradient with norms, and clipped gradient, ÷ the gradient alone

Each part is a process of its own with a share of the time, so that one that fails, hangs or runs out of memory costs
its own rows and no others; what a part did not come to is said in its last row. On a CPU sizes are small (`--quick`).
Ratios are of minima over runs in turn (measure.py). Products are taken as JAX takes them by default: on a recent NVIDIA
GPU float32 products are then TF32, and so is the peak that they are measured against. Nothing else should run on the
machine: a share above 1 says that something did while the peak was measured.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
SHARES = {"roofline": 2.0, "networks": 2.0, "quantities": 1.25, "fit": 1.0, "battery": 2.5}  # of the time
COLUMNS = ("part", "case", "measure", "value", "mark", "note")
WORKERS, LOCK = max(1, min(8, (os.cpu_count() or 2) // 2)), threading.Lock()
LAST = 5.0  # seconds that are left for stopping what does not stop, and for the table
GIVEN_UP = 5.0  # seconds before a part's end from which no case is begun


class Clock:
    """How long a part has, and whether there is time for another case."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.longest, self.began = 0.0, time.monotonic()

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def allows(self) -> bool:
        """Whether a case as long as the longest so far would end in time; asked before every case."""
        now = time.monotonic()
        self.longest, self.began = max(self.longest, now - self.began), now
        return self.left > max(GIVEN_UP, self.longest)


Row = dict[str, Any]
Say = Callable[..., None]


def each(cases: dict[str, Any], clock: Clock, say: Say) -> Iterator[tuple[str, Any]]:
    """The cases there is time for; what the others are is said."""
    names = list(cases)
    for i, name in enumerate(names):
        if not clock.allows():
            say("", "not reached", len(names) - i, note=f"no time left: {', '.join(names[i : i + 4])} …")
            return
        yield name, cases[name]


def guarded(say: Say, case: str, run: Callable[[], None]) -> None:
    """Run a case; what it raises is a row."""
    try:
        run()
    except Exception as error:  # whatever an unknown device and its compiler raise
        first = str(error).strip().splitlines() or [""]
        say(case, "failed", type(error).__name__, note=first[0][:160])


# battery


def battery(say: Say, clock: Clock, quick: bool) -> None:
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")  # the gates are for float32, not for TF32
    from tests.cases import COSTS, LAYERS

    seen: set[Any] = set()
    first = [case for case in LAYERS if not (case.kind in seen or seen.add(case.kind))]
    layers = first if quick else [*first, *(case for case in LAYERS if case not in first)]
    for what, check, cases, whole, share in (
        ("costs", check_cost, [(str(case), case) for case in COSTS], len(COSTS), 0.2),
        ("networks", check_network, list(networks(quick).items()), len(networks(quick)), 0.4),
        ("layers", check_layer, [(str(case), case) for case in layers], len(LAYERS), 1.0),
    ):
        found = checked(check, cases, Clock(share * clock.left))
        wrong = {name: said for name, said in found.items() if said}
        notes = [f"{name}: {said}" for name, said in itertools.islice(wrong.items(), 3)]
        if len(found) < whole:
            why = "one of each kind is tried" if len(found) == len(cases) else "no time left"
            notes.insert(0, f"{whole - len(found)} of {whole} left out: {why}")
        say(what, "agree", f"{len(found) - len(wrong)} of {len(found)}", mark="all", note="; ".join(notes))


def checked(check: Callable[[Any], str], cases: list[tuple[str, Any]], clock: Clock) -> dict[str, str]:
    """What is wrong with each case there is time for; several at once, since most of the time is XLA compiling."""
    found = {}
    waiting = iter(cases)

    def work() -> None:
        mine = Clock(clock.left)
        for name, case in locked(waiting):
            if not mine.allows():
                return
            try:
                found[name] = check(case)
            except Exception as error:  # whatever an unknown device and its compiler raise
                found[name] = type(error).__name__

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(work) for _ in range(WORKERS)]:
            done.result()
    return found


def locked(waiting: Iterator[Any]) -> Iterator[Any]:
    """The next of what several threads share."""
    while True:
        with LOCK:
            following = next(waiting, None)
        if following is None:
            return
        yield following


def check_layer(case: Any) -> str:
    """What is wrong with a layer on this device, nothing if nothing is."""
    import jaxprop as jp

    report = jp.check_layer(case.layer, case.x("float32"), case.params("float32"), env=case.env())
    return ", ".join(sorted({row.name for row in report.rows if row.ok is False}))


def check_cost(case: Any) -> str:
    """Whether delta is the derivative of the cost, in each precision."""
    import jax
    import jax.numpy as jnp

    from jaxprop.arrays.relative import relative
    from jaxprop.arrays.tolerances import tolerance

    @jax.jit
    def both(y, targets):
        return case.cost.delta(y, targets), jax.grad(lambda y: jnp.sum(case.cost(y, targets)))(y)

    far = {
        dtype: found
        for dtype in ("float32", "bfloat16")
        if not (found := float(relative(*both(case.y(dtype), case.targets(dtype))))) <= tolerance(dtype)
    }
    return ", ".join(f"{dtype} {found:.1e}" for dtype, found in far.items())


def check_network(case: tuple[Any, ...]) -> str:
    """Whether the gradient by hand is `jax.grad`'s, in each precision."""
    import jax

    from jaxprop.arrays.relative import relative
    from jaxprop.arrays.tolerances import tolerance

    net, x, targets = case
    params, far = net.init(jax.random.key(0), x), {}
    for precision in ("float32", "bfloat16"):
        by_hand, by_jax = (step_of(net, precision, way)(x, params, targets)[1] for way in ("manual", "auto"))
        if not (found := float(relative(by_hand, by_jax))) <= tolerance(precision):
            far[precision] = found
    return ", ".join(f"{dtype} {found:.1e}" for dtype, found in far.items())


# networks


def networks(quick: bool) -> dict[str, Any]:
    """The networks of networks.py; on a CPU some of them, and smaller."""
    import jax
    import jax.numpy as jnp
    import networks

    import jaxprop as jp

    if not quick:
        return networks.CASES
    x = jax.random.normal(jax.random.key(1), (64, 784))
    ids = networks.IDS[:2, :32]
    small = jp.models.gpt(networks.VOCABULARY, 32, 2, 2, 32)
    return {
        "MLP 784-128-10, batch 64": (jp.models.mlp((784, 128, 10), jp.ReLU()), x, jnp.zeros(64, int)),
        "LSTM 32, T = 16, batch 8": (
            jp.models.rnn_classifier("lstm", 32, 10), x[:8, : 16 * 8].reshape(8, 16, 8), jnp.zeros(8, int),
        ),
        "GPT, 2 layers, 32 wide": (small, ids, ids),
    }  # fmt: skip


def step_of(net: Any, precision: str, way: str) -> Callable[..., Any]:
    """A compiled value and gradient in a precision, as `fit` computes it: θ comes and the gradient goes in float32."""
    import jax
    import optax

    import jaxprop as jp
    from jaxprop.train.rows import Rows
    from jaxprop.train.steps import Recipe

    recipe = Recipe(net, jp.SoftmaxCrossEntropy(), optax.sgd(0.1), way, None, precision)  # pyright: ignore
    return jax.jit(lambda x, params, targets: recipe.value_and_grad(Rows(x, targets), params, None))


def manual_against_auto(say: Say, clock: Clock, quick: bool) -> None:
    import jax
    from measure import ratios

    for name, (net, x, targets) in each(networks(quick), clock, say):

        def run(name=name, net=net, x=x, targets=targets):
            inputs = x, net.init(jax.random.key(0), x), targets
            programs = compiled({way: step_of(net, "float32", way) for way in ("manual", "auto")}, inputs)
            sizes = {way: program.memory_analysis().temp_size_in_bytes for way, program in programs.items()}
            seconds, _ = timed(programs, inputs, 3 if quick else 10, clock)
            found = ratios(seconds, "manual", "auto")
            say(name, "manual ÷ auto, time", found["of_minima"], note=spread(found))
            if sizes["auto"]:
                say(name, "manual ÷ auto, memory", sizes["manual"] / sizes["auto"], mark="≤ 1.00")

        guarded(say, name, run)


def compiled(steps: dict[str, Any], inputs: Any) -> dict[str, Any]:
    """The compiled programs of some jitted steps, made at once."""
    lowered = {name: step.lower(*inputs) for name, step in steps.items()}
    with ThreadPoolExecutor(len(lowered)) as pool:
        return dict(zip(lowered, pool.map(lambda program: program.compile(), lowered.values()), strict=True))


def timed(programs: dict[str, Any], inputs: Any, rounds: int, clock: Clock) -> tuple[dict[str, list[float]], int]:
    """Seconds of some programs in turn, each repeated until a run takes 5 ms; and how often that is."""
    from measure import in_turn

    once = min(
        min(taken) for taken in in_turn({n: functools.partial(p, *inputs) for n, p in programs.items()}, 2).values()
    )
    repeats = max(1, round(0.005 / once))
    rounds = max(2, min(rounds, int(clock.left / 4 / (once * repeats * len(programs)))))

    def repeated(program):
        return [program(*inputs) for _ in range(repeats)][-1]  # in one queue: only the last is waited for

    return in_turn({name: functools.partial(repeated, program) for name, program in programs.items()}, rounds), repeats


def spread(found: dict[str, float]) -> str:
    return f"median {found['median']:.2f}, quartiles {found['low']:.2f}–{found['high']:.2f}"


# roofline


def roofline(say: Say, clock: Clock, quick: bool) -> None:
    import jax

    import jaxprop as jp

    size = 1024 if quick else 8192
    peaks = {dtype: peak(dtype, size, clock) for dtype in ("float32", "bfloat16")}
    for dtype, rate in peaks.items():
        say(f"product [{size}, {size}], {dtype}", "peak, TFLOP/s", rate / 1e12)
    bandwidth = copied(1 << 24 if quick else 1 << 30, clock)
    say("copy of a large array", "peak, GB/s", bandwidth / 1e9)
    for name, (net, x, targets) in each(larger(quick), clock, say):

        def run(name=name, net=net, x=x, targets=targets):
            params = net.init(jax.random.key(0), x)
            summary = jp.summary(net, x)
            operations = summary.total("forward") + summary.total("backward")
            inputs = x, params, targets
            programs = compiled({dtype: step_of(net, dtype, "manual") for dtype in peaks}, inputs)
            seconds, repeats = timed(programs, inputs, 3 if quick else 8, clock)
            for dtype, program in programs.items():
                taken, sizes = min(seconds[dtype]) / repeats, program.memory_analysis()
                fewest = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
                by = {"operations": operations / peaks[dtype], "bytes": fewest / bandwidth}
                limit = max(by, key=lambda what: by[what])
                note = f"{1e3 * taken:.3g} ms a step; limit: {limit}, {1e3 * by[limit]:.3g} ms"
                say(name, f"share of the roofline, {dtype}", by[limit] / taken, note=note)
            gain = min(seconds["float32"]) / min(seconds["bfloat16"])
            say(name, "bfloat16, times as fast as float32", gain)

        guarded(say, name, run)


def larger(quick: bool) -> dict[str, Any]:
    """Networks that are large enough to be bound by the device and not by starting its kernels, and the usual ones."""
    import jax
    import jax.numpy as jnp

    import jaxprop as jp

    if quick:
        return networks(quick)
    wide = jax.random.normal(jax.random.key(1), (8192, 4096))
    ids = jax.random.randint(jax.random.key(1), (16, 512), 0, 8192)
    return {
        "MLP 4096-4096-4096-10, batch 8192": (
            jp.models.mlp((4096, 4096, 4096, 10), jp.ReLU()), wide, jnp.zeros(8192, int),
        ),
        "GPT, 12 layers, 768 wide, T = 512, batch 16": (jp.models.gpt(8192, 768, 12, 12, 512), ids, ids),
        **networks(quick),
    }  # fmt: skip


def peak(dtype: str, size: int, clock: Clock) -> float:
    """Operations a second of a large square product."""
    import jax
    import jax.numpy as jnp

    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    program = jax.jit(jnp.matmul).lower(a, a).compile()
    seconds, repeats = timed({dtype: program}, (a, a), 10, clock)
    return 2 * size**3 * repeats / min(seconds[dtype])


def copied(numbers: int, clock: Clock) -> float:
    """Bytes a second, read and written, of x + 1."""
    import jax
    import jax.numpy as jnp

    x = jnp.zeros(numbers, jnp.float32)
    program = jax.jit(lambda x: x + 1).lower(x).compile()
    seconds, repeats = timed({"copy": program}, (x,), 10, clock)
    return 2 * x.nbytes * repeats / min(seconds["copy"])


# fit


def fit(say: Say, clock: Clock, quick: bool) -> None:
    import training
    from measure import in_turn, ratios

    workloads = dict(list(training.WORKLOADS.items())[:2] if quick else training.WORKLOADS)
    for name, (units, batch_size, rows, rate, epochs) in each(workloads, clock, say):

        def run(name=name, units=units, batch_size=batch_size, rows=rows, rate=rate, epochs=epochs):
            some = (rows // 5, 1) if quick else (rows, max(1, epochs // 4))
            runs, steps, _ = training.candidates(units, batch_size, some[0], rate, some[1])
            runs = {way: runs[way] for way in ("raw", "manual")}
            seconds = in_turn(runs, 3)
            found = ratios(seconds, "manual", "raw")
            raw = 1e6 * min(seconds["raw"]) / steps
            # what fit does once a run (its start) is a larger share of these short runs than of a real one
            note = f"{spread(found)}; raw {raw:.3g} µs a step, {steps} steps a run"
            say(f"{name}, batch {batch_size}", "fit ÷ raw scan", found["of_minima"], note=note)

        guarded(say, name, run)


# quantities


def norms_and_clipped(say: Say, clock: Clock, quick: bool) -> None:
    import jax
    import quantities
    from measure import ratios

    import jaxprop as jp

    marks = {"norms": "≤ 1.05, conv 1.35", "clipped": "≤ 1.25"}
    for name, (net, x, targets) in each(networks(quick), clock, say):

        def run(name=name, net=net, x=x, targets=targets):
            inputs = x, net.init(jax.random.key(0), x), targets
            found = quantities.quantities(net)
            steps = {"gradient": jp.auto.value_and_grad(net, quantities.COST)} | {what: found[what] for what in marks}
            programs = compiled({what: jax.jit(step) for what, step in steps.items()}, inputs)
            seconds, _ = timed(programs, inputs, 3 if quick else 8, clock)
            for what, mark in marks.items():
                ratio = ratios(seconds, what, "gradient")
                say(name, f"{what} ÷ gradient", ratio["of_minima"], mark=mark, note=spread(ratio))

        guarded(say, name, run)


PARTS = {
    "roofline": roofline,
    "networks": manual_against_auto,
    "quantities": norms_and_clipped,
    "fit": fit,
    "battery": battery,
}


def part(name: str, seconds: float, into: pathlib.Path, setting: str) -> None:
    """Be the process of one part: every row goes to the file as soon as it is there."""
    clock = Clock(seconds)
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    import jax

    with into.open("a", encoding="utf-8") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        def say(case: str, measure: str, value: Any, mark: str = "", note: str = "") -> None:
            write(dict(zip(COLUMNS, (name, case, measure, value, mark, note), strict=True)))

        device = jax.devices()[0]
        versions = (
            f"{device.device_kind} ({jax.default_backend()}), {jax.device_count()} of them, jax {jax.__version__}"
        )
        write({"device": versions})
        quick = setting == "quick" or (setting == "auto" and jax.default_backend() == "cpu")
        write({"quick": quick})
        guarded(say, "", lambda: PARTS[name](say, clock, quick))
        write({"ended": name})


def parts(options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Run every part in a process of its own; return the rows, and what they say of the device."""
    end = time.monotonic() + 60 * options.minutes - LAST
    rows, about = [], {}
    names = [name for name in PARTS if options.only in name]
    for i, name in enumerate(names):
        seconds = (end - time.monotonic()) * SHARES[name] / sum(SHARES[later] for later in names[i:])
        print(f"{name}: up to {seconds:.0f} s …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            into = pathlib.Path(folder) / "rows.jsonl"
            into.touch()
            command = [sys.executable, __file__, "--part", name, "--seconds", str(seconds), "--into", str(into)]
            stopped = "out of time"
            try:
                ended = subprocess.run([*command, "--setting", options.setting], timeout=seconds, check=False)
                stopped = f"its process ended with {ended.returncode}" if ended.returncode else ""
            except subprocess.TimeoutExpired:
                pass
            found = [json.loads(line) for line in into.read_text("utf-8").splitlines() if line.endswith("}")]
        about |= {key: row[key] for row in found for key in ("device", "quick") if key in row}
        rows += [row for row in found if "part" in row]
        if stopped and {"ended": name} not in found:
            note = "what it had found by then stands above"
            rows.append(dict(zip(COLUMNS, (name, "", "stopped", stopped, "", note), strict=True)))
    return rows, about


def table(rows: list[Row], about: dict[str, Any], seconds: float) -> str:
    """All of it as text."""
    lines = [dict(zip(COLUMNS, COLUMNS, strict=True)), *rows]
    widths = {key: max(len(text(line[key])) for line in lines) for key in COLUMNS}
    setting = "quick: small sizes" if about.get("quick") else "full sizes"
    title = f"jaxprop on {about.get('device', 'an unknown device: no part started')} · {setting} · {seconds:.0f} s"
    body = ["  ".join(text(line[key]).ljust(widths[key]) for key in COLUMNS).rstrip() for line in lines]
    return "\n".join([title, *body])


def text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="how long all of it may take")
    parser.add_argument("--only", default="", help=f"the parts that have this in their name: {', '.join(PARTS)}")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows there")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", dest="setting", action="store_const", const="quick", default="auto", help="small sizes"
    )
    size.add_argument("--full", dest="setting", action="store_const", const="full", help="full sizes, on a CPU too")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # these four are for the process of one part
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part(options.part, options.seconds, options.into, options.setting)
        return
    began = time.monotonic()
    rows, about = parts(options)
    seconds = time.monotonic() - began
    print(table(rows, about, seconds))
    if options.json:
        options.json.write_text(json.dumps({**about, "seconds": round(seconds), "rows": rows}, indent=1) + "\n")
    if all(row["measure"] in ("stopped", "failed", "not reached") for row in rows):
        sys.exit("nothing was measured: is there a part of this name, does `import jax` work, was there time enough?")


if __name__ == "__main__":
    main()
