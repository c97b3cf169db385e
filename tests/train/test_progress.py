"""The line that says how far a training run is."""

import io

from rich.console import Console

from jaxprop.train.progress import Progress


def test_the_time_left_leaves_compiling_out(monkeypatch):
    """Compiling took 100 s with the first step; each later step takes one."""
    now = [0.0]
    monkeypatch.setattr("jaxprop.train.progress.time.monotonic", lambda: now[0])
    progress = Progress(12, 1, enabled=False)
    now[0] = 100.0
    progress.advance(1)
    assert "left" not in progress.speed()
    now[0] = 101.0
    progress.advance(1)
    assert progress.speed() == "1 steps/s · 10 s left"


def test_the_time_left_leaves_the_compiling_of_the_first_validation_out(monkeypatch):
    """It takes 50 s after the first epoch, and to keep the run for the first time another 20; each step takes one."""
    now = [0.0]
    monkeypatch.setattr("jaxprop.train.progress.time.monotonic", lambda: now[0])
    progress = Progress(7, 2, enabled=False)
    for now[0] in (100.0, 101.0, 102.0):
        progress.advance(1)
    now[0] = 152.0
    assert progress.speed() == "1 steps/s · 4 s left"
    progress.epoch({"epoch": 1, "cost": 0.5, "seconds": 152.0})
    for now[0] in (173.0, 174.0):
        progress.advance(1)
    assert progress.speed() == "1 steps/s · 2 s left"


def test_progress_is_one_line_in_a_narrow_terminal():
    progress = Progress(10_000, 10, enabled=False)
    progress.bar.live.console = console = Console(width=60, file=io.StringIO(), force_terminal=True)
    row = "epoch 3 · cost 0.5 · validation cost 0.25 · validation accuracy 95.00 %"
    progress.bar.add_task(row, total=10_000, completed=500, rate="12,345 steps/s · 1:15 left")
    with console.capture() as seen:
        console.print(progress.bar.get_renderable())
    text = seen.get()
    assert text.count("\n") == 1 and "epoch 3" in text and "1:15 left" in text


def test_the_bar_moves_however_quick_the_epochs_are(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("jaxprop.train.progress.time.monotonic", lambda: now[0])
    progress = Progress(1000, 500)
    progress.bar.live.console = Console(file=io.StringIO(), force_terminal=True)
    progress.live, progress.task = True, progress.bar.add_task("", total=1000, rate="")
    for epoch in range(1, 100):
        now[0] += 0.05
        progress.advance(2)
        progress.epoch({"epoch": epoch, "cost": 0.5, "seconds": now[0]})
    assert progress.bar.tasks[0].completed > 150 and "epoch 9" in progress.bar.tasks[0].description


def test_a_full_disk_under_the_progress_does_not_end_training(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stderr", Full())
    with Progress(2, 2) as shown:
        shown.advance(1)
        shown.epoch({"epoch": 1, "cost": 0.5, "seconds": 1.0})
        shown.advance(1)
        shown.epoch({"epoch": 2, "cost": 0.5, "seconds": 1.0})
    assert not shown.enabled
