"""What the benchmarks print can be read and trusted: limits, missing modules, broken rows, right results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("benchmarks", reason="they are part of the checkout, not of the wheel")

from benchmarks import elsewhere
from benchmarks.__main__ import ROWS, main, measured
from benchmarks.engine import QUICK, Sizes
from benchmarks.figures import Figure

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("x", ours=16.0, floor=2.0, must=15, aim=8), "aim met"),
        (Figure("x", ours=16.1, floor=2.0, must=15, aim=8), "must met"),
        (Figure("x", ours=30.1, floor=2.0, must=15, aim=8), "not met"),
        (Figure("x", ours=4.0, floor=2.0, must=2), "met"),
        (Figure("x", ours=2.1, must=2, absolute=True), "not met"),
        (Figure("x", ours=1.9, must=2, absolute=True), "met"),
        (Figure("x", ours=9.0, floor=2.0), ""),
        (Figure("x", must=2, note="not built yet"), ""),
    ],
)
def test_a_figure_is_judged_by_its_own_limits(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict


def test_a_row_of_a_module_that_is_missing_says_so() -> None:
    row = elsewhere.row("nothing", "benchmarks.nowhere", lambda module, sizes: [])
    assert [figure.note for figure in row(QUICK)] == ["not built yet"]


def test_a_row_that_fails_says_why_and_the_next_one_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sizes: Sizes) -> Iterator[Figure]:
        yield Figure("begun", ours=1.0)
        raise OSError("no room")

    monkeypatch.setitem(ROWS, "broken", broken)
    monkeypatch.setitem(ROWS, "good", lambda sizes: [Figure("good", ours=1.0)])
    before = os.getcwd()
    found = list(measured(["broken", "good"], QUICK, lambda text: None))
    notes = [(name, figure.note) for name, figure in found]
    assert notes == [("broken", ""), ("broken", "failed: OSError: no room"), ("good", "")]
    assert os.getcwd() == before


def test_json_has_each_figure_with_its_floor_and_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    main(["authoring", "--quick", "--json", "--repeats", "1"])
    printed = json.loads(capsys.readouterr().out)
    (figure,) = printed["figures"]
    assert figure["row"] == "authoring"
    assert figure["ratio"] == pytest.approx(figure["ours"] / figure["floor"])
    assert printed["environment"]["sizes"]["authored"] == QUICK.authored


def test_an_unknown_row_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fan-in"])
    assert "there is no row fan-in; the rows are fan-out, chain" in capsys.readouterr().err


def test_our_own_peer_script_checks_its_results_and_prints_times_of_each_shape(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "peers" / "with_flowcore.py"), "inline", "20", "5", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [len(printed[shape]) for shape in ("fan", "chain")] == [1, 1]
