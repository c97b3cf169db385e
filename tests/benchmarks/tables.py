"""Tables as people have them: `jaxprop train` with its defaults beside scikit-learn's pipelines.

    python -m tests.benchmarks.tables [--seeds 5] [--json FILE]

Two made-up tables, a house-price-like one (numbers, categories, missing cells, dates; R² of the price) and a
Titanic-like one (sex, class, age, fare, port; accuracy of who survived). Everyone trains on the same file and is judged
on the same fifth of the rows, in a file of its own; `jaxprop train` holds out a fifth of its own file besides, to know
when to stop. Scikit-learn's pipeline is what its guide shows: ColumnTransformer
of an imputer with indicator and StandardScaler for numbers, one-hot for text; dates are given to it as days.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from jaxprop import data, describe, evaluate, load


def houses(path, seed, rows=1200):
    """Write a table of houses: the price is skewed, multiplicative in area and quality, with noise of a tenth."""
    r = np.random.default_rng(seed)
    area, age = r.lognormal(4.7, 0.35, rows), r.integers(0, 90, rows)
    rooms = np.clip(np.round(area / 28 + r.normal(0, 0.8, rows)), 1, 9).astype(int)
    quarter = r.choice(["Altstadt", "Hafen", "Nord", "Süd", "West"], rows, p=[0.1, 0.15, 0.3, 0.25, 0.2])
    heating = r.choice(["gas", "oil", "heat pump", ""], rows, p=[0.5, 0.2, 0.2, 0.1])
    garden, day = r.random(rows) < 0.4, r.integers(0, 1800, rows)
    worth = {"Altstadt": 1.5, "Hafen": 1.25, "Nord": 0.9, "Süd": 1.0, "West": 1.05}
    warmth = {"gas": 1.0, "oil": 0.95, "heat pump": 1.1, "": 1.0}
    price = 2600 * area**0.95 * np.array([worth[q] for q in quarter]) * np.array([warmth[h] for h in heating])
    price *= (1 - 0.004 * age + 0.00003 * age**2) * (1 + 0.08 * garden) * 1.04 ** (day / 365)
    price *= r.lognormal(0, 0.1, rows)
    lines = []
    for i in range(rows):
        sold = np.datetime64("2019-01-01") + int(day[i])
        plot = "" if r.random() < 0.15 else f"{area[i] * (2 + 3 * garden[i]) * r.lognormal(0, 0.2):.0f}"
        shown = "" if r.random() < 0.05 else str(2024 - age[i])
        lines.append([
            f"H{i:05d}", f"{area[i]:.1f}", rooms[i], shown, plot, quarter[i], heating[i],
            "yes" if garden[i] else "no", sold, f"${price[i]:,.0f}",
        ])  # fmt: skip
    header = ["id", "area", "rooms", "built", "plot", "quarter", "heating", "garden", "sold", "price"]
    _write(path, header, lines)
    return "price"


def passengers(path, seed, rows=891):
    """Write a table of passengers: survival by sex, class and age as on the Titanic."""
    r = np.random.default_rng(seed)
    grade = r.choice([1, 2, 3], rows, p=[0.24, 0.21, 0.55])
    sex = r.choice(["female", "male"], rows, p=[0.35, 0.65])
    age = np.clip(r.normal(38 - 4.5 * grade, 13, rows), 0.4, 80)
    fare = r.lognormal(4.3 - 0.75 * grade, 0.5)
    relatives = r.poisson(0.9, rows)
    port = r.choice(["S", "C", "Q"], rows, p=[0.72, 0.19, 0.09])
    score = 2.6 * (sex == "female") - 1.05 * (grade - 2) - 0.03 * (age - 30) + 1.6 * (age < 10) - 0.25 * relatives
    survived = r.random(rows) < 1 / (1 + np.exp(-(score - 1.0 + 0.3 * (port == "C"))))
    lines = []
    for i in range(rows):
        years = "" if r.random() < 0.2 else f"{age[i]:.0f}"
        cabin = f"{'ABCDE'[r.integers(5)]}{r.integers(100)}" if r.random() < 0.23 else ""
        boarded = "" if r.random() < 0.003 else port[i]
        name = f"{'Mr.' if sex[i] == 'male' else 'Mrs.'} {i * 7919 % 10007:04d}"
        lines.append([i + 1, int(survived[i]), grade[i], name, sex[i], years, relatives[i], f"{fare[i]:.2f}", cabin,
                      boarded])  # fmt: skip
    header = ["id", "survived", "class", "name", "sex", "age", "relatives", "fare", "cabin", "embarked"]
    _write(path, header, lines)
    return "survived"


def _write(path, header, lines):
    """The first four fifths as the file itself, the rest as `test.csv` beside it."""
    first = len(lines) * 4 // 5
    for name, rows in ((path, lines[:first]), (Path(path).with_name("test.csv"), lines[first:])):
        with open(name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])


def ours(train, test, target, seed, options):
    """The score of `jaxprop train` with its defaults on the rows of `test`."""
    out = Path(train).with_suffix("") / f"run{seed}"
    command = [sys.executable, "-m", "jaxprop", "train", str(train), "--target", target, "--quiet", "--json"]
    done = subprocess.run(
        [*command, "--out", str(out), "--seed", str(seed), *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    net, params = load(out)
    about = describe(out)
    assert about.info.table is not None and about.cost is not None
    x, targets = data.rows_to_predict(data.read_table(test), about.info.table, target, about.info.classes)
    found = evaluate(net, about.cost)(x, params, targets)
    return found["accuracy" if about.info.classes else "r2"]


def theirs(train, test, target, seed, labels):
    """The scores of scikit-learn's pipelines on the same rows."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frames = []
    for path in (train, test):
        frame = pd.read_csv(path)
        y = frame.pop(target)
        if not labels:
            y = y.str.replace("[$,]", "", regex=True).astype(float)
        if "sold" in frame:
            frame["sold"] = (pd.to_datetime(frame["sold"]) - pd.Timestamp("2019-01-01")).dt.days
        frames.append((frame.drop(columns=[name for name in ("id", "name", "cabin") if name in frame]), y))
    (frame, y), held = frames
    text = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    numbers = [name for name in frame if name not in text]
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), text),
    )
    models = {
        "linear": LogisticRegression(max_iter=1000) if labels else Ridge(),
        "MLP": (MLPClassifier if labels else MLPRegressor)(
            hidden_layer_sizes=(32,), max_iter=1000, early_stopping=True, random_state=seed
        ),
        "boosted trees": (HistGradientBoostingClassifier if labels else HistGradientBoostingRegressor)(
            random_state=seed
        ),
    }
    found = {}
    for name, model in models.items():
        if name == "MLP" and not labels:
            from sklearn.compose import TransformedTargetRegressor

            model = TransformedTargetRegressor(model, transformer=StandardScaler())
        pipeline = make_pipeline(prepared, model)
        if name == "boosted trees":
            dense = make_column_transformer(
                ("passthrough", numbers), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), text)
            )
            pipeline = make_pipeline(dense, model)
        pipeline.fit(frame, y)
        found[name] = pipeline.score(*held)
    return found


def main():
    """Print a table of mean scores, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("options", nargs="*", help="of jaxprop train, after --")
    asked = parser.parse_args()
    scores = {}
    for make, labels in ((houses, False), (passengers, True)):
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"{make.__name__}.csv")
                target = make(path, seed)
                options = [*asked.options, *(["--labels"] if labels else [])]
                test = path.with_name("test.csv")
                row = {
                    "jaxprop": ours(path, test, target, seed, options),
                    **theirs(path, test, target, seed, labels),
                }
            for name, score in row.items():
                scores.setdefault(make.__name__, {}).setdefault(name, []).append(round(100 * score, 2))
    for table, found in scores.items():
        for name, values in found.items():
            print(f"{table:12} {name:14} {np.mean(values):6.1f}   ({min(values):.1f} to {max(values):.1f})")
    if asked.json:
        Path(asked.json).write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
