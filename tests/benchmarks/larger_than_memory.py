"""`jp.fit` on rows that stay in files against the same rows in memory, and the memory that it takes for a large file.

    python tests/benchmarks/larger_than_memory.py [--rounds 4] [--gigabytes 4] [--json FILE] [--only npy] [--processor]

[784,512,512,10], batch 256, two epochs, of which the first looks at every row for NaN. The files lie in the page
cache, as they do when they are a little smaller than memory; `cold` drops them from it before each run. --processor
counts the processor's seconds instead of those on the clock, for a busy machine.
Marks: the rate from .npy files ≥ 0.95 of that in memory (minimum over alternating runs); a file of 4 GB under 1 GB.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import optax
from measure import in_turn, ratios, report

import jaxprop as jp
from jaxprop.train import Stream

ROWS, BATCH, EPOCHS = 25_600, 256, 2
LAYERS = [512, 512, 10]


def network():
    return jp.Chain(*(layer for size in LAYERS for layer in (jp.Linear(size), jp.Sigmoid())))


def decoded(record):
    """A record as another program may write it: x, then the targets."""
    row = np.frombuffer(record, np.float32)
    return row[:784], row[784:]


def candidates(folder):
    """The same training from memory and from every kind of file."""
    import grain
    from absl import flags
    from array_record.python.array_record_module import ArrayRecordWriter

    flags.FLAGS.mark_as_parsed()  # Grain's workers read them
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, 784), dtype=np.float32)
    targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, ROWS)]
    np.save(folder / "x.npy", x)
    np.save(folder / "targets.npy", targets)
    np.savez(folder / "rows.npz", x=x, targets=targets)
    jp.data.write_array_record(folder / "rows.array_record", (x, targets))
    writer = ArrayRecordWriter(str(folder / "plain"), "group_size:1,uncompressed")
    for row, target in zip(x, targets, strict=True):
        writer.write(row.tobytes() + target.tobytes())
    writer.close()
    (folder / "shards").mkdir()
    for i, some in enumerate(np.array_split(np.arange(ROWS), 16)):
        np.savez(folder / "shards" / f"rows-{i}.npz", x=x[some], targets=targets[some])
    maps = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "targets.npy", mmap_mode="r")
    indexed = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(str(folder / "plain"))).map(decoded)
    pipeline = indexed.seed(0).shuffle().repeat().batch(BATCH).to_iter_dataset()
    workers = pipeline.mp_prefetch(grain.MultiprocessingOptions(num_workers=2))
    net, optimizer = network(), optax.sgd(0.5)
    start = net.init(jax.random.key(0), x[:1])
    sources = {
        "memory": (x, targets), "npy": maps, "npz": jp.data.stored(folder / "rows.npz"), "npz, 16 shards":
        jp.data.stored(folder / "shards"), "array_record": jp.data.stored(folder / "rows.array_record"),
        "Grain's map": indexed, "Grain's threads": Stream(pipeline, ROWS // BATCH),
        "Grain's 2 workers": Stream(workers, ROWS // BATCH),
    }  # fmt: skip

    def fit(data, cold=()):
        for path in cold:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        result = jp.fit(
            net, jp.HalfSquaredError(), optimizer, data, params=start, epochs=EPOCHS, batch_size=BATCH, progress=False
        )
        assert result.steps == EPOCHS * ROWS // BATCH
        return result.params

    os.sync()
    runs = {name: functools.partial(fit, data) for name, data in sources.items()}
    return runs | {"npy, cold": functools.partial(fit, maps, cold=[folder / "x.npy"])}


def peak(path, gigabytes):
    """Megabytes that a process of its own takes at most, before training and after an epoch on a file of that size."""
    rows = int(gigabytes * 2**30 / (784 * 4))
    done = subprocess.run([sys.executable, __file__, "--peak", str(path), str(rows)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def train_on_a_file(path, rows):
    """What `peak` runs: the file has holes, which are read as zeros and take the page cache as all pages do."""
    folder = pathlib.Path(path)
    x = np.lib.format.open_memmap(folder / "large.npy", "w+", np.float32, (rows, 784))
    x[0] = 1.0
    del x
    x = np.load(folder / "large.npy", mmap_mode="r")
    targets = np.random.default_rng(0).integers(0, 10, rows).astype(np.int32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    began = time.perf_counter()
    net, cost = jp.Linear(10), jp.SoftmaxCrossEntropy()  # small: it is not the network's memory that is asked for
    data = (x, targets)
    result = jp.fit(net, cost, optax.sgd(0.1), data, epochs=1, batch_size=BATCH, validation=data, progress=False)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    seconds = round(time.perf_counter() - began, 1)
    (folder / "large.npy").unlink()
    print(json.dumps({"rows": rows, "steps": result.steps, "MB before": before, "MB": after, "seconds": seconds}))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--gigabytes", type=float, default=4.0, help="of the file that memory is measured on; 0 for none"
    )
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there")
    parser.add_argument("--only", default="", help="the kinds that have this in their name, and memory")
    parser.add_argument("--processor", action="store_true", help="seconds of the processor, for a busy machine")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        train_on_a_file(sys.argv[2], int(sys.argv[3]))
        sys.exit()
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        table = []
        if options.rounds:
            runs = candidates(pathlib.Path(folder))
            runs = {name: run for name, run in runs.items() if name == "memory" or options.only in name}
            seconds = in_turn(runs, options.rounds, time.process_time if options.processor else time.perf_counter)
            for name in runs:
                ratio = ratios(seconds, "memory", name)  # of rates: the inverse of that of the seconds
                table.append({
                    "rows from": name, "µs a step": round(1e6 * min(seconds[name]) / (EPOCHS * ROWS // BATCH)),
                    "rate ÷ memory's": f"{ratio['of_minima']:.3f} ({ratio['low']:.2f}–{ratio['high']:.2f})",
                })  # fmt: skip
        for size in (options.gigabytes / 8, options.gigabytes) if options.gigabytes else ():
            found = peak(folder, size)
            table.append(
                {
                    "rows from": f"npy of {size:g} GB",
                    "µs a step": round(1e6 * found["seconds"] / found["steps"]),
                    "rate ÷ memory's": "",
                    "peak": f"{found['MB']:,} MB",
                    "before fit": f"{found['MB before']:,} MB",
                }
            )
    report(options, "larger than memory", table)
