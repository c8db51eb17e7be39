"""Benchmarks run on small settings, and the command that runs them makes one table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def table(script):
    return script("_table")


@pytest.fixture(scope="module")
def runs(script):
    return script("run")


@pytest.fixture(scope="module")
def documents(script):
    return script("_documents")


@pytest.fixture(scope="module")
def peers(script):
    return script("_peers")


@pytest.mark.parametrize(
    "storage",
    [
        "Redis",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("SQLite", "journal", "PostgreSQL", "gRPC")
        ),
    ],
)
def test_scale_simulates_workers_on_a_real_storage_beside_plain_optuna(storage):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "scale.py", "--quick", "--storages", storage],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for row in ("hpolab: makespan", "Optuna: makespan", "hpolab: back to back, trials/s"):
        assert row in done.stdout
    assert f"{storage}, 100 stored trials" in done.stdout


GOOD = """
from _compare import Record, add_json, compare
import argparse, time
parser = argparse.ArgumentParser()
add_json(parser)
record = Record(parser.parse_args().json)
compare("naps", lambda: time.sleep(0.001), lambda: time.sleep(0.01), n_repeats=2, record=record)
"""
CRASHING = """
def fail():
    raise OSError("no disk")
compare("first", lambda: None, fail, n_repeats=2, record=record)
compare("second", lambda: time.sleep(0.001), lambda: time.sleep(0.01), n_repeats=2, record=record)
record.finish()
"""
KILLED = """
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
HANGING = """
import subprocess, sys
subprocess.run([sys.executable, "-c", f"import time; open('{marker}', 'w'); time.sleep(600)"])
"""


@pytest.fixture
def measured(runs, tmp_path, monkeypatch):
    """Run sections of given scripts; return the exit status, the table, and what was printed."""

    def measure(*arguments, environment="", **scripts):
        parts = {}
        for name, text in scripts.items():
            script = tmp_path / f"{name}.py"
            script.write_text(text)
            step = runs.Step(str(script), minutes=0.15, environment=environment)
            parts[name] = runs.Part("what?", 1, (step,))
        monkeypatch.setattr(runs, "PARTS", parts)
        monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
        status = runs.main([f"--output={tmp_path / 'out'}", *arguments])
        return status, runs.Table.read(tmp_path / "out" / "table.json")

    return measure


def test_a_side_that_crashes_fails_the_run_and_all_other_rows_stay(measured, capsys):
    status, table = measured(bad=GOOD + CRASHING, good=GOOD)
    rows = {(row.section, row.key): row for row in table.rows}
    assert status == 1
    assert rows["bad", "first"].status == "crashed"
    assert rows["bad", "first"].note == "Optuna: OSError: no disk"
    for other in (("bad", "naps"), ("bad", "second"), ("good", "naps")):
        assert rows[other].status == "measured"
        assert rows[other].winner == "hpolab"
    assert "bad, first: crashed: Optuna: OSError: no disk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("raise SystemExit('broken')", "crashed", "broken"),
        (KILLED, "crashed", "ended by SIGKILL"),
        ("import hpolab_no_such_package", "crashed", "ModuleNotFoundError"),
        (HANGING, "too long", "stopped after"),
    ],
)
def test_a_script_that_fails_as_a_whole_is_a_row_and_what_it_had_measured_stays(
    measured, tmp_path, text, status, words
):
    marker = tmp_path / "started"
    done, table = measured(bad=GOOD + text.format(marker=marker), good=GOOD)
    measured_rows = [row for row in table.rows if row.status == "measured"]
    (failed,) = [row for row in table.rows if row.status != "measured"]
    assert done == 1
    assert [row.section for row in measured_rows] == ["bad", "good"]
    assert (failed.section, failed.status) == ("bad", status)
    assert words in failed.note
    if text is HANGING:
        assert marker.exists()
        assert not any("time.sleep(600)" in " ".join(command) for command in commands())


@pytest.mark.parametrize("kept", ["[]", "not JSON", '{"schema": 1}'])
def test_rows_that_cannot_be_read_are_a_failure_of_their_script_alone(measured, kept):
    status, table = measured(bad=f"import sys; open(sys.argv[-1], 'w').write({kept!r})", good=GOOD)
    assert status == 1
    assert [(row.section, row.status) for row in table.rows] == [
        ("bad", "crashed"),
        ("good", "measured"),
    ]
    assert "cannot be read" in table.rows[0].note


def commands():
    import psutil

    return [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]


def test_an_interruption_keeps_the_sections_that_are_done(tmp_path):
    good, endless, out = (tmp_path / name for name in ("good.py", "endless.py", "out"))
    good.write_text(GOOD)
    endless.write_text("import time; time.sleep(600)")
    program = (
        "import sys, run\n"
        f"run.PARTS = {{name: run.Part('what?', 1, (run.Step(path),)) for name, path in "
        f"[('good', {str(good)!r}), ('endless', {str(endless)!r})]}}\n"
        f"sys.exit(run.main(['--output', {str(out)!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": f"{BENCHMARKS}{os.pathsep}{ROOT}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not any(str(endless) in command for command in commands()) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert list(json.loads((out / "table.json").read_text())["sections"]) == ["good"]
    assert not any(str(endless) in command for command in commands())


def test_a_section_measured_again_takes_the_place_of_its_old_rows_alone(measured):
    measured(one=GOOD, two=GOOD)
    status, table = measured("--only", "two", one=GOOD, two=GOOD.replace("naps", "sleeps"))
    assert status == 0
    assert [(row.section, row.key) for row in table.rows] == [("one", "naps"), ("two", "sleeps")]


def test_a_name_that_is_no_section_is_refused_with_the_list(runs, capsys):
    with pytest.raises(SystemExit) as left:
        runs.main(["--only", "storage,storages"])
    assert left.value.code == 2
    assert f"no section 'storages', but: {', '.join(runs.PARTS)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--only", "storage,fused"], ["--only", "storage", "--only", "fused"]]
)
def test_sections_can_be_named_with_commas_and_one_by_one(runs, arguments):
    assert runs.parsed(arguments).only == ["fused", "storage"]


def test_every_section_names_scripts_that_are_there_and_take_its_arguments(runs):
    for part in runs.PARTS.values():
        for step in part.steps:
            script = BENCHMARKS / step.script
            assert script.exists()
            text = script.read_text()
            assert "add_json(" in text or '"--json"' in text
            arguments = (step.sizes, step.quick or "", step.full, step.without, *step.pythons)
            for word in " ".join(arguments).split():
                if word.startswith("--"):
                    assert f'"{word}"' in text, (step.script, word)


@pytest.mark.parametrize(
    ("ours", "theirs", "better", "winner"),
    [
        (1.0, 2.0, "lower", "hpolab"),
        (2.0, 1.0, "lower", "Peer"),
        (1.0, 2.0, "higher", "Peer"),
        (2.0, 1.0, "higher", "hpolab"),
        (0.0, 0.0, "lower", ""),
        (3.0, 0.0, "lower", "Peer"),
    ],
)
def test_a_row_that_a_peer_wins_is_bold_and_no_other(
    table, documents, ours, theirs, better, winner
):
    row = table.Row.of_pairs("k", "what", [(ours, theirs)] * 3, peer="Peer", better=better)
    text, markdown = table.section_lines([row])[1], documents.markdown([row]).splitlines()[2]
    assert row.winner == winner
    assert text.startswith("**what**") == (winner == "Peer")
    assert (markdown.count("**") == 10) == (winner == "Peer")


def test_who_is_ahead_is_decided_pair_by_pair(table):
    """A machine that grows slow half-way makes medians of both sides those of different pairs."""
    pairs = [(1.0, 2.0), (2.5, 2.4), (10.0, 11.0)]
    row = table.Row.of_pairs("k", "what", pairs, peer="Peer")
    assert row.ours.middle > row.theirs.middle
    assert row.ratio.middle < 1
    assert row.winner == "hpolab"


def test_a_table_comes_back_from_json_as_it_was_and_the_text_shows_each_figure(table):
    rows = [
        table.Row.of_pairs("a", "costs", [(1.5, 3.0), (1.0, 4.0)], peer="P", unit="ms"),
        table.Row("b", "is there", "Q", status="not installed", note="no network"),
    ]
    made = table.Table({"s": table.section_of(rows, "s", seconds=2, is_quick=False)})
    again = table.Table.from_json(made.to_json())
    assert again == made
    assert again.to_text() == made.to_text()
    for shown in ("1.25 [1..1.50]", "3.50 [3..4]", "0.375 [0.250..0.500]", "no network"):
        assert shown in made.to_text()


@pytest.mark.parametrize("kept", ['{"schema": 99, "sections": {}}', '{"rows": []}', "[]"])
def test_a_table_of_another_schema_is_refused(runs, tmp_path, capsys, kept):
    (tmp_path / "table.json").write_text(kept)
    status = runs.main([f"--output={tmp_path}", "--only=storage"])
    assert status == 2
    assert "measure again with" in capsys.readouterr().err
    assert (tmp_path / "table.json").read_text() == kept


def test_the_documentation_shows_the_table_that_is_saved(runs, documents):
    saved = runs.Table.read(runs.RESULTS / "table.json")
    for page in documents.PAGES:
        text = (ROOT / page).read_text()
        assert documents.REGION.search(text), page
        assert documents.with_regions(text, saved) == text, "run benchmarks/run.py --write-docs"
    assert (runs.RESULTS / "table.txt").read_text() == saved.to_text()
    assert not any(section.is_quick for section in saved.sections.values())


def test_quick_figures_do_not_get_into_the_documentation(runs, measured, tmp_path, capsys):
    measured("--quick", one=GOOD)
    assert runs.main([f"--output={tmp_path / 'out'}", "--write-docs"]) == 2
    assert "measured with --quick, not for the documentation: ['one']" in capsys.readouterr().err


def test_regions_are_written_anew_and_the_rest_of_a_page_stays(table, documents):
    row = table.Row.of_pairs("a", "costs", [(1.0, 2.0)], peer="P", command="python x.py")
    made = table.Table({"s": table.section_of([row], "s", seconds=2, is_quick=False)})
    page = "Before.\n<!-- table: s -->\nold\n<!-- end of table -->\nAfter.\n"
    text = documents.with_regions(page, made)
    assert text.startswith("Before.\n<!-- table: s -->\n| |")
    assert text.endswith("<!-- end of table -->\nAfter.\n")
    assert "| costs | 1 | P | 2 | 0.500 |" in text
    assert "python x.py" in text
    assert "old" not in text
    assert documents.with_regions(text, made) == text


def test_environments_are_used_again_until_their_requirements_change(peers, tmp_path, monkeypatch):
    (tmp_path / "none.txt").write_text("# nothing\n")
    monkeypatch.setattr(peers, "REQUIREMENTS", tmp_path)
    monkeypatch.setitem(peers.ENVIRONMENTS, "shared", peers.Peers(("none.txt",), on_top=True))
    python = peers.python_of("shared", tmp_path / "peers")
    program = "import sys, optuna; print(sys.prefix, optuna.__version__)"
    shown = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(str(tmp_path / "peers" / "shared"))
    (tmp_path / "peers" / "shared" / "marker").touch()
    assert peers.python_of("shared", tmp_path / "peers") == python
    assert (tmp_path / "peers" / "shared" / "marker").exists()
    (tmp_path / "none.txt").write_text("# changed\n")
    peers.python_of("shared", tmp_path / "peers")
    assert not (tmp_path / "peers" / "shared" / "marker").exists()


def test_a_peer_that_cannot_be_installed_is_a_row_and_the_run_goes_on(
    peers, measured, tmp_path, monkeypatch
):
    (tmp_path / "bad.txt").write_text("./no-such-folder\n")
    monkeypatch.setattr(peers, "REQUIREMENTS", tmp_path)
    monkeypatch.setitem(peers.ENVIRONMENTS, "bad", peers.Peers(("bad.txt",), on_top=True))
    asks = "record.add_missing('k', 'what', 'Peer', 'no_such_package')\nrecord.finish()\n"
    status, table = measured(f"--peers={tmp_path / 'peers'}", environment="bad", one=GOOD + asks)
    kept = {row.key: row for row in table.rows}
    assert status == 0
    assert kept["naps"].status == "measured"
    assert kept["k"].status == "not installed"
    assert "bad: ERROR" in kept["k"].note


def tuner_runs(*runs):
    names = ("tuner", "table", "seed", "seconds", "test")
    return [dict(zip(names, run, strict=True)) for run in runs]


def test_lightgbm_tuners_are_ranked_on_each_table_and_seed_at_the_longest_time(script):
    runs = tuner_runs(
        ("hpolab", "a", 0, 30, 0.1),
        ("plain Optuna", "a", 0, 30, 0.2),
        ("hpolab", "a", 0, 60, 0.3),
        ("plain Optuna", "a", 0, 60, 0.2),
        ("LightGBMTuner", "a", 0, 60, 0.3),
        ("hpolab", "b", 0, 60, 0.5),
        ("plain Optuna", "b", 0, 60, 0.6),
        ("LightGBMTuner", "b", 0, 60, None),
    )
    rows = list(script("_rows").lightgbm_rows(runs, lambda package: "1.0", "no network"))
    of = {(row.key, row.peer): row for row in rows}
    plain = of["rank", "plain Optuna"]
    # On a: plain Optuna 1, the other two share 2 and 3. On b: hpolab, plain Optuna, LightGBMTuner.
    assert (plain.ours.middle, plain.theirs.middle) == (1.75, 1.5)
    assert of["rank", "LightGBMTuner"].theirs.middle == 2.75
    assert of["rank", "FLAML"].status == "not installed"
    assert of["rank", "FLAML"].note == "no network"
    assert of["a", "plain Optuna"].winner == "plain Optuna"
    assert of["b", "plain Optuna"].winner == "hpolab"
    assert ("b", "LightGBMTuner") not in of  # it had no model in time


def test_the_mnist_study_has_its_seconds_and_its_accuracy_seed_by_seed(script):
    runs = [
        {"side": side, "seed": seed, "n_trials": 7, "n_epochs": epochs, "seconds": s, "test": test}
        for side, seed, epochs, s, test in (
            ("hpolab", 0, 50, 10.0, 0.95),
            ("Optuna", 0, 40, 40.0, 0.96),
            ("hpolab", 1, 50, 20.0, 0.97),
            ("Optuna", 1, 40, 40.0, 0.96),
        )
    ]
    rows = script("_rows").mnist_rows(runs, lambda package: "5.0", "")
    of = {row.key: row for row in rows}
    assert (of["study"].ratio.low, of["study"].ratio.high) == (0.25, 0.5)
    assert of["epoch"].ours.middle == pytest.approx(0.3)
    assert of["accuracy"].better == "higher"
