"""Checklist 21: a model's folder from anywhere, with anything in it, is served or refused; nothing of it is run."""

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.export as jax_export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.saved.kinds import describe_settings
from tests.drawing import draw

X = np.ones((2, 3), np.float32)
NET = jp.Chain(jp.Linear(2), jp.Tanh())
ROOT = Path(__file__).parents[2]


def params_of(net):
    return draw(net, X)


class Bomb:
    """What a pickle can bring."""

    def __reduce__(self):
        return os.system, ("touch /tmp/jaxprop-owned",)


def change(folder, **fields):
    """Put fields into the folder's description, whichever it has."""
    (file,) = folder.glob("*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def put(folder, data, kind="weights"):
    """Other bytes in place of the weights or the program, which hash to what the description says."""
    start, end = {"weights": ("params", "safetensors"), "program": ("model", "stablehlo")}[kind]
    digest = hashlib.sha256(data).hexdigest()
    name = f"{start}-{digest[:12]}.{end}"
    (folder / name).write_bytes(data)
    change(folder, **{kind: {"file": name, "sha256": digest}})


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("params.npy", data)
    return file.getvalue()


def objects():
    file = io.BytesIO()
    np.savez(file, W=np.array([Bomb()], dtype=object))
    return file.getvalue()


ONE = {"0.W": {"dtype": "O", "shape": [3, 2], "data_offsets": [0, 24]}}
WEIGHTS = {
    "a pickle": pickle.dumps(Bomb()),
    "npz of objects": objects(),
    "a zip bomb": zipped(bytes(100 << 20)),
    "a header without end": safetensors(b"", length=2**63 - 1),
    "a header of 101 MB": safetensors(b" " * (101 << 20)),
    "a header longer than the file": safetensors({"a": 1}, length=10**6),
    "a deep header": safetensors(b"[" * 100_000),
    "dtype O": safetensors(ONE, bytes(24)),
    "dtype F8": safetensors({"0.W": ONE["0.W"] | {"dtype": "F8_E4M3", "data_offsets": [0, 6]}}, bytes(6)),
    "sizes that overflow": safetensors({"0.W": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 0]}}),
    "tensors over each other": safetensors(
        {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in ("0.W", "0.b")}, bytes(8)
    ),
    "a tensor out of the file": safetensors(
        {"0.W": {"dtype": "F32", "shape": [3, 2], "data_offsets": [10**9, 10**9 + 24]}}
    ),
}  # fmt: skip


def net(**description):
    return lambda folder: change(folder, net=description)


def row(*shape, dtype="float32"):
    """Rows of another shape, for a net that takes any and has no parameters."""
    spec = {"shape": [-1, *shape], "dtype": dtype}
    return lambda folder: (
        change(folder, net={"kind": "Tanh"}, params={}, inputs={"x": spec}, outputs={"y": spec})
        or put(folder, safetensors({}))
    )


def linked(name, target):
    def link(folder):
        (file,) = folder.glob(name)
        file.unlink()
        file.symlink_to(target)

    return link


def elsewhere(kind, file):
    return lambda folder: change(folder, **{kind: {"file": file, "sha256": "0" * 64}})


def fifo(folder):
    (file,) = folder.glob("params-*")
    file.unlink()
    os.mkfifo(file)


def text(data):
    return lambda folder: next(folder.glob("*.json")).write_bytes(data)


SAVED = {
    **{name: lambda folder, data=data: put(folder, data) for name, data in WEIGHTS.items()},
    "a path as weights": elsewhere("weights", "../../secret/params-000000000000.safetensors"),
    "an absolute path": elsewhere("weights", "/etc/passwd"),
    "weights link out": linked("params-*", "/etc/passwd"),
    "model.json links out": linked("model.json", ROOT / "pyproject.toml"),
    "a fifo": fifo,
    "deep JSON": text(b'{"net":' * 100_000),
    "deep layers": text(b'{"format":1,"net":' + b'{"kind":"Residual","layer":' * 5000),
    "kind os.system": net(kind="os.system", command="touch /tmp/jaxprop-owned"),
    "kind builtins": net(kind="__import__('os').system('touch /tmp/jaxprop-owned')"),
    "a layer of 10^12": net(**describe_settings(jp.Linear(10**12))),
    "repeated 10^12 times": net(**describe_settings(jp.Repeat(jp.Linear(3), 10**12))),
    "rows of 10^12": row(10**12),
    "rows of 10^9": row(10**9),
    "rows of 10^30": row(10**30),
    "rows whose product overflows": row(2**32, 2**32),
    "rows of negative size": row(-5),
    "rows of objects": row(3, dtype="object"),
    "params of 10^18": lambda f: change(f, params={"0.W": {"shape": [10**9, 10**9], "dtype": "float32"}}),
}  # fmt: skip


def program(f, unchecked=(), derivatives=0):
    """f(x) of rows [3] in place of the exported program, whatever JAX thinks of what it calls."""

    def forge(folder):
        (b,) = jax_export.symbolic_shape("b")
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            g = jax.jit(lambda inputs, params: {"y": f(inputs["x"])})
            checks = [jax_export.DisabledSafetyCheck.custom_call(target) for target in unchecked]
            made = jax_export.export(g, platforms=("cpu",), disabled_checks=checks)
            made = made({"x": jax.ShapeDtypeStruct((b, 3), np.float32)}, {})
        put(folder, bytes(made.serialize(vjp_order=derivatives)), "program")
        put(folder, safetensors({}))
        x = {"shape": [-1, 3], "dtype": "float32"}
        y = {"shape": [-1, *made.out_avals[0].shape[1:]], "dtype": "float32"}
        change(folder, params={}, inputs={"x": x}, outputs={"y": y})

    return forge


def calls(target):
    return program(lambda x: _call(target, x), [target])


def calls_when_differentiated(target):
    f = jax.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda _, dy: (_call(target, dy),))
    return program(f, [target], derivatives=1)


def _call(target, x):
    return jax.ffi.ffi_call(target, jax.ShapeDtypeStruct(x.shape, x.dtype))(x, index=np.int64(0))


def _square(x):
    """[b, 1, 1] → [b, 2^19, 2^19]"""
    return x * jnp.arange(2.0**19, dtype=np.float32)[:, None] + jnp.arange(2.0**19, dtype=np.float32)


EXPORTED = {
    **{f"export, {name}": lambda folder, data=data: put(folder, data) for name, data in WEIGHTS.items()},
    "export, a pickle as program": lambda f: put(f, pickle.dumps(Bomb()), "program"),
    "export, Python source as program": lambda f: put(f, b"import os; os.system('ls')", "program"),
    "export, empty program": lambda f: put(f, b"", "program"),
    "export, half a program": lambda f: put(f, next(f.glob("model-*")).read_bytes()[:2000], "program"),
    "export, a path as program": elsewhere("program", "../../secret/model-000000000000.stablehlo"),
    "export, program links out": linked("model-*", "/etc/passwd"),
    "export, deep JSON": text(b'{"format":' * 100_000),
    "export, other rows": lambda f: change(f, inputs={"x": {"shape": [-1, 10**12], "dtype": "float32"}}),
    "export, rows of objects": lambda f: change(f, inputs={"x": {"shape": [-1, 3], "dtype": "object"}}),
    "export, calls Python": calls("xla_ffi_python_cpu_callback"),
    "export, derivative calls Python": calls_when_differentiated("xla_ffi_python_cpu_callback"),
    "export, calls what aborts": calls("TopK"),
    "export, answers of 2^40": program(lambda x: jnp.broadcast_to(x[:, :1, None], (x.shape[0], 1 << 20, 1 << 20))),
    "export, 2^38 on the way": program(lambda x: x * jnp.sort(_square(x[:, :1, None]))[:, 0, :1]),
    "export, calls what is not there": calls("nonsense"),
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """{name: what became of it} of every folder above, loaded in a process of its own."""
    base = tmp_path_factory.mktemp("untrusted")
    with jax.enable_x64(False):
        params = params_of(NET)
        good = {"saved": jp.save(base / "warm/saved", NET, params, inputs=X)}
        good["exported"] = jp.export(base / "warm/exported", NET, params, inputs=X)
    (base / "secret").mkdir()
    names = {}
    for kind, cases in (("saved", SAVED), ("exported", EXPORTED)):
        for name, alter in cases.items():
            names[f"m{len(names)}"] = name
            folder = shutil.copytree(good[kind], base / "models" / f"m{len(names) - 1}")
            alter(folder)
    code = shutil.copytree(good["saved"], base / "models/code")
    for file in ("__init__.py", "model.py", "layers.py", "sitecustomize.py", "jaxprop.py", "evil.pth", "conftest.py"):
        (code / file).write_text("import os; os.system('touch /tmp/jaxprop-owned')")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.serve.hostile", str(base / "models"), str(base / "warm")],
        capture_output=True, text=True, timeout=100, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, (found[-1:], ran.stderr[-3000:])
    assert len(found) == len(names) + 1
    return {names.get(told["name"], told["name"]): told for told in found}


# What each is refused for, where another reason could hide it.
WORDS = {
    "a fifo": "neither a file",
    "dtype F8": "0.W: found F8_E4M3, expected one of",
    "export, dtype F8": "0.W: found F8_E4M3, expected one of",
    "a layer of 10^12": "expected float32[3, 1000000000000]",
    "repeated 10^12 times": "1000000000000",
    "rows of 10^12": "max_body_bytes",
    "rows of 10^9": "max_body_bytes",
    "rows of negative size": "[-5]",
    "export, answers of 2^40": "this machine has",
    "export, 2^38 on the way": "this machine has",
    "export, calls Python": "custom calls",
    "export, derivative calls Python": "custom calls",
    "export, calls what aborts": "custom calls",
    "export, calls what is not there": "custom calls",
}


@pytest.mark.parametrize("name", [*SAVED, *EXPORTED])
def test_it_is_refused_in_words_at_no_cost(loaded, name):
    told = loaded[name]
    assert told["status"] == 400 and told["text"].startswith("model 'm"), told
    assert WORDS.get(name, "") in told["text"], told["text"]
    assert told["seen"] == [], told
    assert told["mb"] < 450 and told["seconds"] < 20, told


def test_code_beside_a_model_is_not_looked_at(loaded):
    assert (loaded["code"]["status"], loaded["code"]["seen"]) == (200, [])
    assert not Path("/tmp/jaxprop-owned").exists()
