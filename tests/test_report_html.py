"""The page of a run: what is on it, that nothing in a run becomes markup, that it stays small, that a real browser opens it."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

import flowcore
from flowcore import dsl
from flowcore.dsl import Dataset, Metrics, Output
from flowcore.executors import LocalExecutor

HOSTILE = "</pre></title><script>document.title='owned'</script><img src=\"http://example.invalid/x.png\" onerror='alert(1)'>&lt;"


@dsl.component
def study(number: int, bad: int, metrics: Output[Metrics], table: Output[Dataset]) -> int:
    sys.stdout.write(f"studying {number}\n")
    logging.getLogger("study").warning("a warning of %s", number)
    if number == bad:
        raise ValueError(f"{number} is bad")
    metrics.log_metric("score", number / 4)
    table.metadata["rows"] = 3
    Path(table.path).write_text("x" * 1500)
    return number


@dsl.component
def total(values: list[int]) -> int:
    return sum(values)


@dsl.pipeline(name="the study", description="Studies numbers.")
def study_all(numbers: list[int], bad: int = -1) -> int:
    with dsl.ParallelFor(numbers, name="sweep") as number:
        studied = study(number=number, bad=bad)
    with dsl.If(total(values=[1]).output == 2, name="never"):
        total(values=[2])
    return total(values=dsl.Collected(studied.outputs["Output"])).output


@dsl.component
def echo(number: int) -> int:
    return number


@dsl.pipeline
def grid(rows: list[int], columns: list[int]) -> None:
    with dsl.ParallelFor(rows, name="rows"), dsl.ParallelFor(columns, name="columns") as column:
        echo(number=column)


@dsl.component
def shout(text: str, table: Output[Dataset]) -> str:
    sys.stdout.write(f"\x1b[31m{text}\x1b[0m\x00\u202e\n")
    table.metadata[text] = text
    Path(table.path).write_text(text)
    return text


@dsl.component
def fail(text: str) -> None:
    raise ValueError(text)


# What a name may hold: no slash, no control character.
@dsl.pipeline(name="<img src=x onerror=alert(1)> & \"'", description=HOSTILE)
def hostile(text: str = HOSTILE) -> str:
    one = shout(text=text)
    with dsl.If(one.outputs["Output"] == HOSTILE, name="<b onclick=x>&"):
        fail(text=one.outputs["Output"])
    return one.outputs["Output"]


class Page(HTMLParser):
    """The tags and the text of a page; fails where a tag is not closed."""

    VOID = frozenset({"meta", "link", "br", "img", "hr"})
    #: SVG's, which close themselves.
    ALONE = frozenset({"rect", "path", "polyline"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def test_a_page_tells_everything_of_a_run() -> None:
    run = flowcore.run(study_all, {"numbers": [3, 4]}, name="nightly")
    page = Page(run.to_html())
    uri = run.tasks["sweep.0/study"].outputs["table"].uri
    (digest,) = {ref.sha256 for path, _, _, ref in run._records.artifacts(run.run_id) if path == "sweep.0/study" and ref.sha256}
    for part in (
        "the study", "(nightly)", "✓ SUCCEEDED", "Studies numbers.", run.run_id,
        "studying 3", "a warning of 3", "numbers", "[3, 4]", "score", "0.75", "1.5 kB", uri, digest, '{"rows": 3}',
        "LocalExecutor(mode='threads'", run.pipeline.hash, "its condition is false", "for each of numbers", "2 iterations",
    ):  # fmt: skip
        assert part in page.text, part


def test_a_failed_runs_page_begins_with_its_traceback_and_shows_its_attempts() -> None:
    @dsl.pipeline
    def tries() -> None:
        fail(text="no luck").set_retry(2)

    run = flowcore.run(tries, raise_on_failure=False)
    page = Page(run.to_html())
    assert page.text.index("What failed") < page.text.index("Graph")
    assert 'raise ValueError(text)' in page.text
    assert "ValueError: no luck" in page.text
    assert "3 attempts" in page.text
    assert "retry 2 of 2" in page.text


def test_a_page_is_written_to_a_file_as_it_is_returned(tmp_path: Path) -> None:
    run = flowcore.run(study_all, {"numbers": [1]})
    written = run.to_html(tmp_path / "run.html")
    assert (tmp_path / "run.html").read_text(encoding="utf-8") == written


def test_a_page_of_a_running_run_shows_what_there_is() -> None:
    begun, release = threading.Event(), threading.Event()

    @dsl.component
    def hold() -> None:
        begun.set()
        release.wait(60)

    run = flowcore.submit(hold)
    try:
        assert begun.wait(60)
        next(event for event in run.events() if event.task == "hold")
        page = Page(run.to_html())
        assert "● RUNNING" in page.text
    finally:
        release.set()
        run.result()


def test_a_run_in_memory_has_a_page_too() -> None:
    assert "in memory" in Page(flowcore.run(study_all, {"numbers": [1]}, records=None).to_html()).text


def test_nothing_in_a_run_becomes_markup() -> None:
    run = flowcore.run(hostile, raise_on_failure=False)
    for html in (run.to_html(), run._repr_html_(), hostile._repr_html_(), str(run.timeline()), str(run.timeline("worker"))):
        page = Page(html)
        kinds = {tag for tag, _ in page.tags}
        assert not kinds & {"script", "img", "iframe", "object", "embed", "form", "a", "base"}
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "data")]
        assert set(sources) <= {"data:,"}
    page = Page(run.to_html())
    assert HOSTILE in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\x7f]", page.text)


def test_a_page_names_no_address_but_svgs_own() -> None:
    html = flowcore.run(study_all, {"numbers": [1]}).to_html()
    assert set(re.findall(r"https?://[^\"'\s<]*", html)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in html
    assert "url(" not in html


def test_text_that_utf_8_cannot_hold_is_written_all_the_same(tmp_path: Path) -> None:
    run = flowcore.run(echo_text, {"text": "a\udce4b"})
    run.to_html(tmp_path / "run.html")
    assert (tmp_path / "run.html").stat().st_size


@dsl.component
def echo_text(text: str) -> str:
    return text


def test_ten_thousand_iterations_give_a_small_page_that_says_what_it_leaves_out() -> None:
    run = flowcore.run(grid, {"rows": list(range(100)), "columns": list(range(100))}, executor=LocalExecutor("inline"))
    html = run.to_html()
    page = Page(html)
    assert len(html) < 2_000_000
    assert "60 more iterations are left out, none of them failed" in page.text
    assert "×10,000" in page.text
    left_out = [int(count) for count in re.findall(r"(\d+) more iterations", page.text)]
    # Of each loop of columns that is shown; then of the loop of rows, of which fewer are, since the page has no more room.
    assert left_out[0] == 60
    assert left_out[-1] > 60
    assert len(re.findall(r"iteration \d+", page.text)) < 1500
    assert "rows/columns/echo: 10,000 attempts" in page.text


def test_iterations_that_failed_come_first() -> None:
    run = flowcore.run(study_all, {"numbers": list(range(60)), "bad": 57}, raise_on_failure=False)
    page = Page(run.to_html())
    named = re.findall(r"iteration (\d+)", page.text)
    assert named[:3] == ["57", "0", "1"]
    assert len(named) == 40
    assert "20 more iterations are left out, none of them failed" in page.text


def test_the_metrics_of_many_iterations_are_summed_up() -> None:
    run = flowcore.run(study_all, {"numbers": list(range(21))})
    page = Page(run.to_html())
    cells = " ".join(page.text[page.text.index("of the greatest") :].split())
    assert "sweep/study score 21 0 2.5 5 sweep.0/study sweep.20/study" in cells


def test_a_long_log_shows_its_end_and_how_much_is_left_out() -> None:
    @dsl.component
    def talk() -> None:
        for number in range(20_000):
            sys.stdout.write(f"line number {number}\n")

    page = Page(flowcore.run(talk).to_html())
    assert "line number 19999" in page.text
    assert "line number 0\n" not in page.text
    assert re.search(r"the end of it: [\d,]{7} bytes before are left out", page.text)


CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture
def browser() -> str:
    found = next((path for name in CHROMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a Chrome browser on PATH, one of {', '.join(CHROMES)}")
    return found


def _open(browser: str, page: Path, profile: Path) -> tuple[str, str]:
    """(the page's document as the browser has it, what the browser logged)."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
        "--enable-logging=stderr", "--v=0", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["hostile", "failed", "large"])
def test_a_real_browser_opens_the_page_from_disk_without_an_error(kind: str, browser: str, tmp_path: Path) -> None:
    run = {
        "hostile": lambda: flowcore.run(hostile, raise_on_failure=False),
        "failed": lambda: flowcore.run(study_all, {"numbers": [1, 2], "bad": 2}, raise_on_failure=False),
        "large": lambda: flowcore.run(grid, {"rows": [*range(40)], "columns": [*range(40)]}, executor=LocalExecutor("inline")),
    }[kind]()
    page = tmp_path / "page.html"
    html = run.to_html(page)
    document, log = _open(browser, page, tmp_path / "profile")
    # A page that would load or run anything is refused that by its own policy, which the browser's console tells.
    assert "CONSOLE" not in log, log
    assert "Environment</h2>" in document
    assert "<title>owned" not in document
    assert document.count("<details") == html.count("<details")


def test_the_browser_tells_of_a_page_that_does_reach_out(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    html = flowcore.run(echo, {"number": 1}).to_html()
    reaches_out = "<img src='http://127.0.0.1:9/x.png'><script>document.title = 'owned'</script>"
    page.write_text(html.replace("<header>", f"<header>{reaches_out}"))
    document, log = _open(browser, page, tmp_path / "profile")
    assert log.count("CONSOLE") >= 2, log
    assert "owned</title>" not in document
