"""The notebooks of examples/ run as a reader runs them, and show what they are committed with.

And what a notebook sees of a run: one bar, and a stop button that leaves a clean study.
"""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
# The settings of each notebook, and small ones.
SMALL = {
    "digits_optimizers": "n_trials, n_seeds, max_epochs = 9, 2, 3",
    "lightgbm_frame": "n_trials, n_seeds, max_rounds = 24, 2, 20",
}
SETTINGS = re.compile(r"^n_trials, n_seeds, max_\w+ = .*$", re.MULTILINE)


def committed(name: str):
    return nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shows_a_value(source: str) -> bool:
    """Tell whether the last line of a cell is a value that a notebook shows."""
    last = ast.parse(source).body[-1]
    is_print = isinstance(last, ast.Expr) and ast.unparse(last).startswith("print(")
    return isinstance(last, ast.Expr) and not is_print


def results(cell) -> list:
    return [output for output in cell.outputs if output.output_type == "execute_result"]


def bars(cell) -> list[str]:
    shown = [output.data for output in cell.outputs if output.output_type == "display_data"]
    return [data["text/plain"] for data in shown if "<progress" in data.get("text/html", "")]


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    """Plots as a notebook keeps them, without plotly.js itself; no word about missing widgets."""
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Nothing of the user's own is read or written.
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))


def test_each_notebook_has_small_settings():
    assert {path.stem for path in (ROOT / "examples").glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs_from_top_to_bottom_and_shows_its_values(name, kernels, tmp_path):
    notebook = committed(name)
    n_replaced = 0
    for cell in code_cells(notebook):
        cell.outputs = []
        cell.source, n = SETTINGS.subn(SMALL[name], cell.source)
        n_replaced += n
    assert n_replaced == 1
    execute(notebook, tmp_path)
    for cell in code_cells(notebook):
        assert not [output for output in cell.outputs if output.output_type == "error"]
        if "plot_" in cell.source.splitlines()[-1]:
            (figure,) = [o for o in cell.outputs if "application/vnd.plotly.v1+json" in o.data]
            assert figure.data["application/vnd.plotly.v1+json"]["data"]
        elif shows_a_value(cell.source):
            (shown,) = results(cell)
            assert " at 0x" not in shown.data["text/plain"]
    assert sum(len(bars(cell)) for cell in code_cells(notebook)) >= 2


@pytest.mark.parametrize("name", SMALL)
def test_a_committed_notebook_was_executed_in_order_and_is_small(name):
    notebook, path = committed(name), ROOT / "examples" / f"{name}.ipynb"
    assert path.stat().st_size < 300_000
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not any(output.output_type == "error" for output in cell.outputs)
        if "plot_" in cell.source.splitlines()[-1]:
            # The picture is for a page that draws nothing, as GitHub's.
            (figure,) = [o for o in cell.outputs if "image/png" in o.get("data", {})]
            assert "application/vnd.plotly.v1+json" in figure.data
        elif shows_a_value(cell.source):
            assert results(cell)
    shown = path.read_text()
    assert "plotly.js v" not in shown
    assert not re.search(r"/(tmp|home|work|root|Users)/", shown)


RUN = """
import time
from hpolab import FunctionObjective, make_study, run

def train(params, reporter):
    for step in reporter.steps(10):
        time.sleep({seconds})
        reporter.report(params["x"], step)
    return params["x"] ** 2

objective = FunctionObjective(
    train, search_space={{"x": (0.0, 1.0)}}, metric="error", direction="minimize", max_steps=10
)
study = make_study("s", storage="sqlite:///s.db", objective=objective, pruner="none", seed=0)
run(study, objective, n_trials={n_trials}, n_workers={n_workers})
"""
STATES = "[trial.state.name for trial in study.trials]"


def execute(notebook, folder: Path) -> None:
    """Run a notebook's cells in a folder."""
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()


def in_cells(*sources: str):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])


def test_a_run_is_one_bar_whose_last_state_stays(kernels, tmp_path):
    notebook = in_cells(RUN.format(seconds=0.0, n_trials=40, n_workers=1))
    execute(notebook, tmp_path)
    (cell,) = notebook.cells
    (bar,) = bars(cell)
    assert bar.startswith("s: 40/40 · best error ")
    said = "".join(o.text for o in cell.outputs if o.output_type == "stream")
    assert "finished with" not in said  # the bar takes the place of a line a trial


def test_without_a_bar_a_notebook_has_a_line_a_trial(kernels, tmp_path):
    source = RUN.format(seconds=0.0, n_trials=3, n_workers=1)
    notebook = in_cells(source.replace("n_workers=1", "show_progress_bar=False"))
    execute(notebook, tmp_path)
    (cell,) = notebook.cells
    assert bars(cell) == []
    said = "".join(o.text for o in cell.outputs if o.output_type == "stream")
    assert said.count("finished with error: ") == 3


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_stop_button_requeues_and_says_how_to_resume(n_workers, kernels, tmp_path):
    again = RUN.format(seconds=0.0, n_trials=6, n_workers=n_workers)
    notebook = in_cells(
        RUN.format(seconds=0.3, n_trials=6, n_workers=n_workers), STATES, again, STATES
    )
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", allow_errors=True, resources=resources
    )
    asyncio.run(stopped_in_the_first_cell(client, notebook))
    first, left, resumed, done = notebook.cells
    (error,) = [output for output in first.outputs if output.output_type == "error"]
    assert error.ename == "KeyboardInterrupt"
    assert "start it again to resume" in error.evalue
    # What was pressed matters, not where in hpolab it was noticed.
    assert "\n".join(error.traceback).count("\n") < 30
    (bar,) = bars(first)
    assert "/6" in bar
    states = ast.literal_eval(results(left)[0].data["text/plain"])
    assert set(states) <= {"COMPLETE", "WAITING"}
    assert "WAITING" in states
    assert not any(output.output_type == "error" for output in resumed.outputs)
    states = ast.literal_eval(results(done)[0].data["text/plain"])
    assert states == ["COMPLETE"] * 6


async def stopped_in_the_first_cell(client, notebook) -> None:
    """Run the cells, and press the stop button once the first one's bar shows a finished trial."""
    async with client.async_setup_kernel():
        first = asyncio.create_task(client.async_execute_cell(notebook.cells[0], 0))
        while not any(not bar.startswith("s: 0/6") for bar in bars(notebook.cells[0])):
            await asyncio.sleep(0.1)
            assert not first.done()
        await client.km.interrupt_kernel()
        await first
        for place, cell in list(enumerate(notebook.cells))[1:]:
            await client.async_execute_cell(cell, place)
