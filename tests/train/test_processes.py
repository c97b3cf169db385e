"""Jobs of several real processes on this machine: the same numbers, the same turns, one end.

Each process is Python started anew, so most of these are slow. `tests/train/job.py` is what they run.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import yaml
from typer.main import get_command

import jaxprop as jp
from jaxprop.cli import app
from jaxprop.train.devices.lifeline import Lifeline
from tests.train import job

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 150  # for a job, on a machine that does other things too


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Job:
    """Some processes that run one command, each with its number."""

    def __init__(self, commands):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "SLURM_", "OMPI_"))}
        environment |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")}
        environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.running = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for command in commands]

    def __enter__(self):
        until = time.monotonic() + SECONDS
        ended = {}
        while len(ended) < len(self.running) and time.monotonic() < until:
            ended |= {
                i: time.monotonic() for i, p in enumerate(self.running) if i not in ended and p.poll() is not None
            }
            time.sleep(0.05)
        self.lasted = max(ended.values(), default=0.0) - min(ended.values(), default=0.0)
        for process in self.running:
            process.kill()
        said = [process.communicate(timeout=20) for process in self.running]
        self.out, self.err = zip(*said, strict=True)
        self.codes = [process.returncode for process in self.running]
        assert len(ended) == len(self.running), f"still running after {SECONDS} s\n" + "\n".join(self.err)
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()


def run(what, processes, folder):
    port = str(free_port())
    python = [sys.executable, "-m", "tests.train.job", what]
    return Job([[*python, str(i), str(processes), port, str(folder)] for i in range(processes)])


def found(folder, process=0):
    return json.loads((folder / f"{process}.json").read_text())


@pytest.fixture(scope="module")
def alone():
    """The same training in one process, for eight epochs and for four."""
    with jax.enable_x64(False):
        return {epochs: job.plain(job.learn(epochs=epochs)) for epochs in (4, 8)}


def close(one, other):
    """Parameters to 1e-6 of the largest, and costs."""
    largest = max(np.max(np.abs(b)) for b in other["params"])
    for a, b in zip(one["params"], other["params"], strict=True):
        assert np.max(np.abs(np.subtract(a, b))) <= 1e-6 * largest
    assert [row.keys() for row in one["history"]] == [row.keys() for row in other["history"]]
    for name in ("cost", "validation_cost"):
        a, b = ([row[name] for row in given["history"]] for given in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert (one["stopped"], one["steps"]) == (other["stopped"], other["steps"])
    return True


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder in which two processes have written what they found: numbers and turns."""
    folder = tmp_path_factory.mktemp("pair")
    with run("numbers_and_turns", 2, folder) as done:
        assert done.codes == [0, 0], done.err
    return folder


@pytest.mark.slow
def test_several_processes_are_one_and_each_reads_its_own_rows(pair, alone):
    check_numbers([found(pair, process)["numbers"] for process in range(2)], alone)


@pytest.mark.slow
def test_so_are_four(tmp_path, alone):
    with run("numbers", 4, tmp_path) as done:
        assert done.codes == [0] * 4, done.err
    check_numbers([found(tmp_path, process) for process in range(4)], alone)


def check_numbers(of_each, alone):
    for got in of_each:
        assert close(got["data"], alone[4]) and close(got.get("fsdp", got["data"]), alone[4])
        assert got.get("records", 8) == 8
        assert got["data"] == of_each[0]["data"]
        # a few rows for their shapes, then every epoch its part of each batch; the last, smaller one does not divide
        read = [rows for rows in got["read"] if rows == job.FULL * job.BATCH // len(of_each)]
        assert len(read) == 4 and sum(got["read"]) - sum(read) <= 4 * job.REST + 2 * 256


@pytest.mark.slow
def test_all_take_the_same_turns(pair):
    first, second = (found(pair, process)["turns"] for process in range(2))
    assert first == second
    assert (first["callback"]["stopped"], len(first["callback"]["history"])) == ("callback", 2)
    assert first["early"]["stopped"] == "early"
    assert first["data"].startswith("DataError: fit: process 1 of 2 has other data than process 0")
    assert first["key"].startswith("DataError: fit: process 1 of 2 has other key than process 0")
    assert first["params"].startswith("DataError: fit: process 1 of 2 has other params than process 0")
    assert first["nan"].startswith("TrainingError: training stopped at step")
    assert "cannot be divided among the 2 devices" in first["batch_size"]


@pytest.mark.parametrize(
    "then", [pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.exhaustive)]
)
def test_a_killed_process_ends_the_job_which_goes_on_with_other_processes(then, tmp_path, alone):
    """Not the first of them dies, then the first, and one process alone comes to the end."""
    for processes, epoch, who in ((2, 3, 1), (then, 6, 0)):
        with run(f"killed:{epoch}:{who}", processes, tmp_path) as done:
            assert done.codes[who] == -9, done.err
            for process in set(range(processes)) - {who}:
                assert done.codes[process] not in (0, None)
                said = [line for line in done.err[process].splitlines() if line.startswith("jaxprop: ")]
                assert len(said) == 1, done.err[process]
                assert f"process {who} of {processes} has ended without a word" in said[0]
            assert done.lasted < 60
    kept_at = json.loads(max((tmp_path / "run").glob("checkpoint-*/run.json")).read_text())
    assert json.loads(kept_at["body"])["epochs"] >= 3  # the second job went on where the first was
    with jax.enable_x64(False):
        last = job.learn(checkpoints=tmp_path / "run", resume=True, epochs=8)
    assert close(job.plain(last), alone[8])


@pytest.mark.slow
def test_a_signal_to_one_process_keeps_the_run_and_an_error_ends_all(tmp_path, alone):
    with run("asked", 2, tmp_path) as done:
        assert done.codes == [1, 1], done.err
        assert "ZeroDivisionError: of its own\nin two lines" in done.err[1]
        assert "jaxprop: process 1 of 2 stopped: ZeroDivisionError: of its own in two lines, and" in done.err[0]
        assert done.lasted < 60
    assert found(tmp_path)["interrupted"] == found(tmp_path, 1)["interrupted"]
    assert len(found(tmp_path)["interrupted"]["history"]) == 2
    assert len(list((tmp_path / "run").glob("checkpoint-*"))) <= 2
    with jax.enable_x64(False):
        last = job.learn(checkpoints=tmp_path / "run", resume=True, epochs=8)
    assert close(job.plain(last), alone[8])


@pytest.mark.slow
def test_in_the_shell_the_first_process_speaks(tmp_path):
    command = [sys.executable, "-m", "jaxprop", "train", "moons", "--epochs", "3", "--json", "--out", str(tmp_path)]
    meeting = ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process"]
    log = ["--log", str(tmp_path / "run.csv")]
    with Job([[*command, *log, *meeting, str(i)] for i in range(2)]) as done:
        assert done.codes == [0, 0], done.err
        assert json.loads(done.out[0])["stopped"] == "finished" and done.out[1] == done.err[1] == ""
        assert done.err[0].count("epoch 3") == 1
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 4
    assert jp.load(tmp_path)


@pytest.mark.slow
def test_a_coordinator_that_is_not_there(tmp_path):
    code = "import jaxprop as jp; jp.train.distributed('127.0.0.1:{}', 2, {}, seconds=2)"
    with Job([[sys.executable, "-c", code.format(free_port(), i)] for i in range(2)]) as done:
        assert done.codes == [1, 1]
        assert "not all processes of 2 came" in done.err[0] and "cannot be reached after 2 s" in done.err[1]


@pytest.mark.parametrize(
    "given, environment, said",
    [
        ({}, {}, "nothing says where process 0 is, how many processes there are, which it is; SLURM"),
        ({"processes": 2, "process": 2}, {}, "process must be one of 0 to 1, since there are 2, found 2"),
        ({"coordinator": "here"}, {}, "coordinator must be HOST:PORT, such as 10.0.0.1:1234, found 'here'"),
        ({"coordinator": "here:0"}, {}, "must be HOST:PORT"),
        ({"processes": 0}, {}, "processes must be a whole number ≥ 1, found 0"),
        ({}, {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be a whole number ≥ 1, found 'two'"),
        ({}, {"JAX_PROCESS_ID": "3", "JAX_NUM_PROCESSES": "3"}, "process must be one of 0 to 2"),
    ],
)
def test_who_is_who_must_be_said(monkeypatch, given, environment, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jax.distributed.initialize", refuse)
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    with pytest.raises(jp.JaxpropError, match=said.replace("(", r"\(")):
        jp.train.distributed(**given)


def refuse(*_, **__):
    raise ValueError("coordinator_address should be defined.")


def test_devices_that_are_in_use_already(monkeypatch):
    jax.block_until_ready(jax.numpy.zeros(1))
    with pytest.raises(jp.JaxpropError, match=r"call jp.train.distributed\(\) first in the program"):
        jp.train.distributed("127.0.0.1:1", 2, 1)


def test_one_process_is_no_job():
    before = jax.config.jax_enable_preemption_service
    jp.train.distributed(processes=1)
    assert not jax.distributed.is_initialized() and jax.config.jax_enable_preemption_service == before


def test_all_learn_what_became_of_one(monkeypatch):
    """Three ends of lines in one process: whoever dies or fails is told of to all, and who is done to nobody."""
    ends = {0: [], 1: [], 2: []}
    lines = [Lifeline(i, 3, ends[i].append) for i in range(3)]
    for other in (1, 2):
        near, far = socket.socketpair()
        lines[0].follow(other, near)
        lines[other].follow(0, far)
    lines[1].tell("done")
    wait(lambda: 1 in lines[2].done)
    lines[1].lines[0].shutdown(socket.SHUT_WR)  # and says no more
    lines[2].tell("ValueError: of its own")
    wait(lambda: ends[0] and ends[1])
    for process in (0, 1):
        assert len(ends[process]) == 1
        assert f"process 2 of 3 stopped: ValueError: of its own, and process {process} ends" in ends[process][0]
    assert not ends[2]  # it tells of itself
    for line in lines:
        for end in line.lines.values():
            end.close()


def wait(until):
    """Until something has come true."""
    for _ in range(500):
        if until():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to pass")


@pytest.mark.parametrize(
    "launcher", [pytest.param("SLURM", marks=pytest.mark.slow), pytest.param("Open MPI", marks=pytest.mark.exhaustive)]
)
def test_what_started_them_says_who_is_who(launcher, tmp_path):
    """As `srun` and `mpirun` would: nothing is said but what they put into the environment."""

    def environment(i):
        if launcher == "SLURM":
            of_task = {"SLURM_PROCID": i, "SLURM_LOCALID": i}
            given = {"SLURM_JOB_ID": os.getpid(), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": 2} | of_task
        else:
            of_task = {"OMPI_COMM_WORLD_RANK": i, "OMPI_COMM_WORLD_LOCAL_RANK": i}
            uri = f"{os.getpid() * 2**12}.0;tcp://127.0.0.1:9"
            given = {"OMPI_MCA_orte_hnp_uri": uri, "OMPI_COMM_WORLD_SIZE": 2} | of_task
        return [f"{name}={value}" for name, value in given.items()]

    code = "import jax, jaxprop as jp; jp.train.distributed(seconds=60); print('I am', jax.process_index())"
    with Job([["env", *environment(i), sys.executable, "-c", code] for i in range(2)]) as done:
        assert done.codes == [0, 0], done.err
        assert all(f"I am {i}" in done.out[i] for i in range(2))


def test_the_manifest_and_the_script_of_the_docs_are_well_formed():
    page = (ROOT / "docs" / "training" / "machines.md").read_text("utf-8")
    (script,), (manifest,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.S) for kind in ("sh", "yaml"))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=20)
    service, started = yaml.safe_load_all(manifest)
    pod = started["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {entry["name"] for entry in container["env"]}
    assert variables == {"JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"}
    assert pod["subdomain"] == service["metadata"]["name"]  # else a pod has no name that others find
    assert service["spec"]["selector"]["job-name"] == started["metadata"]["name"]
    assert container["env"][1]["value"] == str(started["spec"]["completions"]) == str(started["spec"]["parallelism"])
    for words in (container["command"], script.split("--kill-on-bad-exit=1 ")[1].split("\n")[0].split()):
        assert words[:2] == ["jaxprop", "train"]
        known = {option for param in get_command(app).commands["train"].params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= known
