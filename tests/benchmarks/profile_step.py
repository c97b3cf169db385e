"""Where a step of a network goes: products, attention, what a scan copies, what is left. Manual beside `jax.grad`.

    python tests/benchmarks/profile_step.py [--only "GPT in Repeat"] [--rounds 20] [--lines 0] [--json FILE]

Every operation of the compiled step is timed by `jax.profiler`, on one core, so that none runs beside another, and with
huge pages (it starts itself with GLIBC_TUNABLES=glibc.malloc.hugetlb=1). Of an operation's times the lower eighth
counts: load only adds. --lines prints the slowest operations too. Limits: see `networks.py`; the two lines "products"
and "attention" are the operations that the GPT needs, all else is bytes.
"""

import collections
import os
import pathlib
import re
import sys
import tempfile

HUGE = "glibc.malloc.hugetlb=1"
if __name__ == "__main__" and HUGE not in os.environ.get("GLIBC_TUNABLES", ""):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "GLIBC_TUNABLES": HUGE})
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before JAX counts the cores

import jax  # noqa: E402
from measure import arguments, report  # noqa: E402
from networks import CASES, DEPTH  # noqa: E402

import jaxprop as jp  # noqa: E402

OPERATION = re.compile(
    r"^\s*(?:ROOT )?%?([\w.\-]+) = \(?(\w+)\[([\d,]*)\]\S* ([\w\-]+)\(.*?(?:op_name=\"([^\"]*)\"|$)", re.M
)
KINDS = ("products", "attention", "convolutions", "scan", "turned and copied", "the rest")


def kind(name, shape, made_by):
    """Which of KINDS an operation is, by its name, the shape of its result and what it was traced from."""
    scores = len(shape) == 4 and shape[-1] == shape[-2]
    if "conv" in made_by or name.startswith("conv"):
        return "convolutions"
    if "update-slice" in name or "dynamic-slice" in name or (shape[:1] == (DEPTH,) and "fusion" not in name):
        return "scan"
    if "wrapped_broadcast" in name:
        return "scan"
    if name.startswith(("ynn", "dot")) and (scores or "nht" in made_by or "nhs" in made_by):
        return "attention"
    if name.startswith(("ynn", "dot")) and ("dot_general" in made_by or name.startswith("dot")):
        return "products"
    if scores:
        return "attention"
    if "copy" in name or "transpose" in name:
        return "turned and copied"
    return "the rest"


def timed(program, inputs, rounds):
    """{operation: (milliseconds a step, its kind, its shape and origin)}."""
    for _ in range(5):
        jax.block_until_ready(program(*inputs))
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = 2, 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(rounds):
                jax.block_until_ready(program(*inputs))
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
    nanoseconds = collections.defaultdict(list)
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                operation = dict(event.stats).get("hlo_op")
                if operation and not operation.startswith(("while", "call", "conditional")):
                    nanoseconds[operation].append(event.duration_ns)
    known = {name: (shape, made_by or "") for name, _, shape, _, made_by in OPERATION.findall(program.as_text())}
    found = {}
    for operation, each in nanoseconds.items():
        shape, made_by = known.get(operation, ("", ""))
        sizes = tuple(int(size) for size in shape.split(",") if size)
        typical = sorted(each)[len(each) // 8] * len(each) / rounds / 1e6
        found[operation] = (typical, kind(operation, sizes, made_by), f"[{shape}] {made_by[-60:]}")
    return found


def profiled(name, lines, rounds):
    """One line a way: milliseconds of each kind."""
    net, x, targets = CASES[name]
    params = net.init(jax.random.key(0), x)
    for way in (jp.manual, jp.auto):
        step = way.value_and_grad(net, jp.SoftmaxCrossEntropy())
        program = jax.jit(lambda x, p, t, step=step: step(x, p, t)).lower(x, params, targets).compile()
        operations = timed(program, (x, params, targets), rounds)
        sums = dict.fromkeys(KINDS, 0.0)
        for milliseconds, of_kind, _ in operations.values():
            sums[of_kind] += milliseconds
        for operation, (milliseconds, of_kind, what) in sorted(operations.items(), key=lambda o: -o[1][0])[:lines]:
            print(f"{milliseconds:7.3f} ms  {of_kind:18} {operation:40} {what}")
        way_name = "manual" if way is jp.manual else "jax.grad"
        yield {"case": name, "way": way_name, "ms": sum(sums.values())} | {k: v for k, v in sums.items() if v}


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=20, named=True, lines=True)
    chosen = [name for name in CASES if (options.only or "GPT") in name]
    report(
        options, "a step on one core", [row for name in chosen for row in profiled(name, options.lines, options.rounds)]
    )
