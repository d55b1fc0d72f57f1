"""Notebooks and the explorers in JupyterLab in a real browser, by keyboard, as a learner uses them.

Needs the optional dependency `playwright` and any Chromium or Chrome; skipped, with the reason, without.
With LAB_SCREENSHOTS set to a folder, pictures of what was seen are saved there.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests import lab

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

MAKE_LAB = """
import numpy as np
from helpers.widgets import DecisionLab

rng = np.random.default_rng(0)
y = np.zeros(20_000, int)
y[rng.choice(len(y), 60, replace=False)] = 1
scores = [1 / (1 + np.exp(3 - 4 * y * rng.random(len(y)) - rng.normal(0, 1, len(y)))) for _ in range(2)]
amount = rng.lognormal(3, 1, len(y)).round(2)
explorer = DecisionLab(y, scores[0], amount=amount, name="first", cost_fp=5, cost_fn=20, budget=50)
explorer.add("second", y, scores[1])
"""
TELL = "print(explorer.choice.to_json(double_precision=15))"
MOVE = """
explorer.dataset = "second"
explorer.threshold, explorer.prevalence, explorer.cost_fp = 0.4, 0.02, 12.0
explorer.cost_fn, explorer.budget, explorer.beta = 30.0, 200, 2.0
"""
MAKE_CAPACITY = """
from helpers.architecture import Design, Latency, Stage
from helpers.widgets import CapacityExplorer

told = {"owner": "us", "failure": "late", "fallback": "popular videos"}
search, scoring = Latency.assumed(9, 14, "a guess"), Latency.assumed(4, 6, "a guess")

def design_for(dau, requests_a_day, videos, k, peak_factor):
    stages = [
        Stage("retrieve", items_in=videos, items_out=k, latency=search, core_ms=9, **told),
        Stage("rank", after="retrieve", at_items=500, latency=scoring, core_ms=4, **told),
        Stage("log", path="offline", state_bytes=1e12),
    ]
    peak = dau * requests_a_day / 86_400 * peak_factor
    return Design("two", stages, peak_qps=peak, peak_factor=peak_factor, budget_ms=100)

explorer = CapacityExplorer(design_for)
explorer
"""
TELL_VIEW = "import json; print(json.dumps({'view': explorer.view, 'load': explorer.load}))"
SET_LOAD = "explorer.dau, explorer.k = 1e6, 1_000"
MAKE_PANEL = """
from tempfile import mkdtemp
from helpers.interview_panel import InterviewPanel
from helpers.mock_interview import MockInterview

interview = MockInterview(mkdtemp() + "/one.json", "fraud detection", "medium", 100, "Senior")
InterviewPanel(interview)
"""
TELL_INTERVIEW = "print(interview.state, interview.questions_left)"
MAKE_OUTLINES = """
from helpers.outline_panel import OutlinePanel

board = OutlinePanel("feed ranking", "small", 200, "Senior")
board
"""
TELL_OUTLINE = "print(board.system, board.scale, board.p99_ms, board.seniority, sep=';')"
CONTROLS = "input, button, select"
TELL_CELL, MOVE_CELL = 1, 2  # cell 0 makes the lab


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[lab.Server]:
    """JupyterLab on a copy of the notebooks, so that running them leaves no trace in the project."""
    pytest.importorskip("playwright", reason="The browser tests need: pip install playwright")
    if lab.find_chromium() is None:
        pytest.skip("No Chromium or Chrome found: install one, or name it in the environment's CHROMIUM.")
    root = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(NOTEBOOKS, root)
    write_notebook(root / "explorer.ipynb", MAKE_LAB, TELL, MOVE)
    write_notebook(root / "capacity.ipynb", MAKE_CAPACITY, TELL_VIEW, SET_LOAD)
    write_notebook(root / "panel.ipynb", MAKE_PANEL, TELL_INTERVIEW)
    write_notebook(root / "outlines.ipynb", MAKE_OUTLINES, TELL_OUTLINE)
    with lab.jupyter_lab(root) as running:
        yield running


def write_notebook(path: Path, *sources: str) -> None:
    cells = [new_code_cell(source.strip()) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)


# -------------------------------------------------------------------- notebooks


@pytest.mark.parametrize("name", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_run_all_in_the_browser_fails_nowhere_and_asks_no_other_machine(server, name):
    with lab.visit() as seen:
        lab.open_notebook(seen.page, server, name)
        lab.run_all(seen.page)
        states = lab.cell_states(seen.page)
        lab.save_screenshot(seen.page, Path(name).stem)
    assert [state for state in states if state["error"] or state["count"] is None] == []
    assert seen.outside == []
    assert seen.errors == []


# ----------------------------------------------------------------- decision lab


@pytest.fixture(scope="module")
def visit(server) -> Iterator[lab.Visit]:
    with lab.visit() as seen:
        lab.open_notebook(seen.page, server, "explorer.ipynb")
        yield seen


@pytest.fixture
def explorer(visit) -> "Explorer":
    """A decision lab as new: its cell is run again."""
    lab.run_cell(visit.page, 0)
    visit.page.wait_for_selector(".decision-lab[data-threshold]")
    return Explorer(visit)


class Explorer:
    """The decision lab on the page, read and moved as a learner would."""

    def __init__(self, visit: lab.Visit) -> None:
        self.visit, self.page = visit, visit.page
        self.root = self.page.locator(".decision-lab")

    def shown(self) -> dict[str, float]:
        """The numbers on the screen, unrounded."""
        data = self.root.evaluate("node => ({...node.dataset})")
        return {key: float(value) for key, value in data.items() if key != "dataset"}

    def focus(self, role: str, name: str) -> None:
        self.root.get_by_role(role, name=name).focus()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def python(self) -> dict[str, float]:
        """The choice in Python, once what was sent has arrived there."""
        for _ in range(50):
            told = json.loads(lab.run_cell(self.page, TELL_CELL))
            choice = {key: math.nan if value is None else value for key, value in told.items()}
            if agree(choice, self.shown()):
                break
            self.page.wait_for_timeout(100)
        return choice


def agree(choice: dict[str, float], shown: dict[str, float]) -> bool:
    return shown == {key: pytest.approx(choice[key], rel=1e-9, abs=1e-12, nan_ok=True) for key in shown}


def assert_agree(explorer: Explorer) -> None:
    assert agree(explorer.python(), explorer.shown()), (explorer.python(), explorer.shown())


def test_it_shows_the_choice_of_python_from_the_start(explorer):
    assert_agree(explorer)
    shown = explorer.shown()
    assert shown["tp"] + shown["fp"] == 50
    assert explorer.root.get_by_text("budget allows 83.3%").is_visible(), "50 reviews of 60 positives"
    lab.save_screenshot(explorer.page, "decision-lab")


@pytest.mark.parametrize("key", ["ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End"])
def test_each_key_moves_the_threshold_and_python_follows(explorer, key):
    before = explorer.shown()
    explorer.focus("slider", "Flag when the score is at least")
    explorer.press(key)
    after = explorer.shown()
    less = key in ("ArrowRight", "PageUp", "End")
    assert (after["threshold"] > before["threshold"]) == less
    assert (after["tp"] + after["fp"] < before["tp"] + before["fp"]) == less
    assert_agree(explorer)


@pytest.mark.parametrize(
    ("slider", "key", "moves"),
    [
        ("Prevalence", "ArrowRight", {"precision", "precision_low", "precision_high", "tp", "fp"}),
        ("Prevalence", "Home", {"precision", "precision_low", "tp"}),
        ("Cost of a false alarm", "ArrowRight", {"cost"}),
        ("Cost of a miss", "End", {"cost"}),
        ("Review budget", "End", set()),
        ("β of the F-score", "ArrowRight", {"f_beta"}),
    ],
)
def test_each_slider_of_the_world_changes_its_numbers_and_python_follows(explorer, slider, key, moves):
    before = explorer.shown()
    text = explorer.root.get_by_role("slider", name=slider).get_attribute("aria-valuetext")
    explorer.focus("slider", slider)
    explorer.press(key)
    after = explorer.shown()
    assert explorer.root.get_by_role("slider", name=slider).get_attribute("aria-valuetext") != text
    assert moves <= {name for name in after if after[name] != before[name]}
    assert after["threshold"] == before["threshold"]
    assert_agree(explorer)


def test_the_data_set_the_amounts_and_the_reset_work_by_keyboard(explorer):
    explorer.focus("checkbox", "plus the amount")
    cost = explorer.shown()["cost"]
    explorer.press("Space")
    assert explorer.shown()["cost"] < cost
    explorer.focus("slider", "Prevalence")
    explorer.press("End")
    explorer.focus("button", "as in the data")
    explorer.press("Enter")
    assert explorer.shown()["tp"] == int(explorer.shown()["tp"])
    assert_agree(explorer)
    explorer.root.get_by_role("combobox", name="Data").select_option("second")
    shown = explorer.shown()
    assert shown["tp"] + shown["fp"] == 50, "another model is compared at the same number of flags"
    assert_agree(explorer)


@pytest.mark.parametrize(
    ("goal", "number", "best"), [("Lowest cost", "cost", min), ("Best F", "f_beta", max)]
)
def test_a_goal_finds_the_best_threshold_and_keeps_it_while_the_world_changes(explorer, goal, number, best):
    explorer.focus("button", goal)
    explorer.press("Enter")
    for slider in ("Prevalence", "Cost of a false alarm", "β of the F-score"):
        explorer.focus("slider", slider)
        explorer.press("PageUp")
        kept = explorer.shown()[number]
        assert_agree(explorer)
        assert kept == best(kept, *numbers_nearby(explorer, number))
        explorer.focus("button", goal)
        explorer.press("Enter")


def numbers_nearby(explorer: Explorer, number: str) -> list[float]:
    """The number at the ends of the slider, and some steps to both sides of where it stands."""
    explorer.focus("slider", "Flag when the score is at least")
    values = []
    for key in ("ArrowLeft", "ArrowLeft", "PageUp", "PageDown", "PageDown", "End", "Home"):
        explorer.press(key)
        values.append(explorer.shown()[number])
    return values


def test_a_click_on_a_curve_moves_the_threshold(explorer):
    before = explorer.shown()
    for title in ("Precision against recall", "ROC curve", "Cost by threshold"):
        explorer.root.get_by_role("img", name=title).click(position={"x": 60, "y": 60})
        after = explorer.shown()
        assert after["threshold"] != before["threshold"]
        assert_agree(explorer)
        before = after


def test_the_budget_is_kept_when_positives_become_more_frequent(explorer):
    explorer.focus("button", "Review budget")
    explorer.press("Enter")
    explorer.focus("slider", "Prevalence")
    explorer.press("PageUp", "PageUp")
    shown = explorer.shown()
    assert 0 < shown["tp"] + shown["fp"] <= 50
    assert_agree(explorer)


def test_python_moves_the_sliders(explorer):
    lab.run_cell(explorer.page, MOVE_CELL)
    explorer.page.wait_for_selector(".decision-lab[data-dataset=second]")
    texts = {"Prevalence": "2.0%", "Cost of a false alarm": "€12", "Review budget": "200", "β of": "2"}
    for slider, text in texts.items():
        explorer.page.wait_for_function(
            "([name, text]) => [...document.querySelectorAll('.decision-lab label')].some("
            "l => l.textContent.startsWith(name) && l.control.getAttribute('aria-valuetext') === text)",
            arg=[slider, text],
        )
    assert_agree(explorer)


def test_keys_in_the_lab_reach_no_command_of_jupyterlab(explorer):
    cells = explorer.page.locator(".jp-CodeCell").count()
    for control in explorer.root.locator(CONTROLS).all():
        control.focus()
        explorer.press("b", "a", "ArrowLeft")
        assert control.evaluate("node => node === document.activeElement")
    assert explorer.page.locator(".jp-CodeCell").count() == cells


def test_tab_reaches_every_control_once_and_each_has_a_name(explorer):
    focusable = explorer.root.locator(CONTROLS)
    focusable.first.focus()
    names = []
    for _ in range(focusable.count()):
        names.append(
            explorer.page.evaluate(
                "(document.activeElement.labels?.[0] ?? document.activeElement).textContent"
            )
        )
        explorer.press("Tab")
    assert len(set(names)) == focusable.count()
    assert all(names)
    assert not explorer.root.evaluate("node => node.contains(document.activeElement)")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("width", [1000, 1300, 1500])
def test_it_fits_is_large_enough_to_project_and_has_contrast(explorer, theme, width):
    page = explorer.page
    page.set_viewport_size({"width": width, "height": 1000})
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", f"JupyterLab {theme}"
    )
    page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")
    look = explorer.root.evaluate(LOOK)
    lab.save_screenshot(page, f"decision-lab-{theme.lower()}-{width}")
    assert look["smallest"] >= 14
    assert look["overflow"] <= 0
    assert look["contrast"] > 7


LOOK = """node => {
  const hasText = element => [...element.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  const texts = [...node.querySelectorAll('*')].filter(hasText);
  const luminance = color => color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const style = getComputedStyle(node);
  const [dark, light] = [style.color, style.backgroundColor].map(luminance).sort((a, b) => a - b);
  return {
    smallest: Math.min(...texts.map(e => parseFloat(getComputedStyle(e).fontSize))),
    overflow: node.scrollWidth - node.clientWidth,
    contrast: (light + 0.05) / (dark + 0.05),
  };
}"""


def test_the_lab_asked_no_other_machine_and_wrote_no_error(explorer):
    explorer.focus("slider", "Flag when the score is at least")
    explorer.press("ArrowLeft")
    assert_agree(explorer)
    assert explorer.visit.outside == []
    assert explorer.visit.errors == []


# ------------------------------------------------------------ capacity explorer


@pytest.fixture(scope="module")
def capacity_visit(server, visit) -> lab.Visit:
    """The page of the decision lab, gone on to another notebook: Playwright runs only once at a time."""
    lab.open_notebook(visit.page, server, "capacity.ipynb")
    return visit


@pytest.fixture
def capacity(capacity_visit) -> "Capacity":
    """A capacity explorer as new: its cell is run again."""
    lab.run_cell(capacity_visit.page, 0)
    capacity_visit.page.wait_for_selector(".capacity-explorer[data-view]")
    return Capacity(capacity_visit)


class Capacity:
    """The capacity explorer on the page."""

    def __init__(self, visit: lab.Visit) -> None:
        self.visit, self.page = visit, visit.page
        self.root = self.page.locator(".capacity-explorer")

    def shown(self) -> dict:
        """What the page draws from."""
        return json.loads(self.root.get_attribute("data-view"))

    def press(self, slider: str, *keys: str) -> None:
        """Press keys on a slider, and wait for Python's answer."""
        self.root.get_by_role("slider", name=slider).focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.page.wait_for_selector(".capacity-explorer:not([aria-busy])")

    def python(self) -> dict:
        """The view and the load in Python."""
        return json.loads(lab.run_cell(self.page, TELL_CELL))


def cells_of(capacity: Capacity) -> list[list[str]]:
    """The text of the table on the page, without the head."""
    rows = capacity.root.locator("tbody tr").all()
    return [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows]


def test_the_table_on_the_page_is_that_of_the_design(capacity):
    view = capacity.python()["view"]
    assert capacity.shown() == view
    told = [[row["name"], *row["cells"]] for row in view["rows"]]
    assert [[name, *cells] for name, _, *cells in cells_of(capacity)] == told
    latencies = [cells[1] for cells in cells_of(capacity)]
    assert latencies[:3] == ["9 / 14 ms ○ assumed", "4 / 6 ms ○ assumed", "–"]
    assert capacity.root.locator("p[role=status]").inner_text() == view["sentence"]
    assert capacity.root.get_by_role("alert").count() == 0, "nothing is refused"
    lab.save_screenshot(capacity.page, "capacity-explorer")


@pytest.mark.parametrize(
    ("slider", "name"),
    [
        ("Users a day", "dau"),
        ("Requests of each", "requests_a_day"),
        ("Videos", "videos"),
        ("Candidates K", "k"),
        ("Peak over mean", "peak_factor"),
    ],
)
def test_each_slider_of_the_load_moves_python_by_keyboard(capacity, slider, name):
    before, text = capacity.python(), capacity.root.get_by_role("slider", name=slider)
    spoken = text.get_attribute("aria-valuetext")
    capacity.press(slider, "ArrowRight")
    after = capacity.python()
    assert after["load"][name] > before["load"][name]
    assert text.get_attribute("aria-valuetext") != spoken
    assert capacity.shown() == after["view"]
    capacity.press(slider, "ArrowLeft")
    assert capacity.python() == before


def test_a_refused_load_says_why_and_the_way_back_is_open(capacity):
    capacity.press("Candidates K", "End")
    alert = capacity.root.get_by_role("alert")
    assert "Stage 'rank' takes" in alert.inner_text()
    assert not capacity.root.locator("table").is_visible()
    lab.save_screenshot(capacity.page, "capacity-explorer-refused")
    capacity.press("Videos", "Home")
    assert "returns 100,000 items" in alert.inner_text()
    capacity.press("Candidates K", "Home")
    assert capacity.root.locator("table").is_visible()
    assert capacity.shown() == capacity.python()["view"]


def test_python_moves_the_sliders_of_the_load(capacity):
    lab.run_cell(capacity.page, MOVE_CELL)
    capacity.page.wait_for_function(
        "() => [...document.querySelectorAll('.capacity-explorer output')].map(o => o.value).join()"
        " === '1M,10,1B,1,000,2.5'"
    )
    assert capacity.shown() == capacity.python()["view"]


def test_keys_and_tab_stay_with_the_sliders_of_the_load(capacity):
    cells = capacity.page.locator(".jp-CodeCell").count()
    sliders = capacity.root.locator(CONTROLS).all()
    sliders[0].focus()
    for slider in sliders:
        assert slider.evaluate("node => node === document.activeElement && node.labels.length === 1")
        capacity.page.keyboard.press("b")
        capacity.page.keyboard.press("Tab")
    assert not capacity.root.evaluate("node => node.contains(document.activeElement)")
    assert capacity.page.locator(".jp-CodeCell").count() == cells


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("width", [1000, 1300])
def test_the_capacity_explorer_fits_and_has_contrast(capacity, theme, width):
    page = capacity.page
    page.set_viewport_size({"width": width, "height": 1000})
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", f"JupyterLab {theme}"
    )
    page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")
    look = capacity.root.evaluate(LOOK)
    lab.save_screenshot(page, f"capacity-explorer-{theme.lower()}-{width}")
    assert look["smallest"] >= 14
    assert look["overflow"] <= 0
    assert look["contrast"] > 7


def test_the_capacity_explorer_asked_no_other_machine_and_wrote_no_error(capacity):
    capacity.press("Users a day", "PageUp")
    assert capacity.visit.outside == []
    assert capacity.visit.errors == []


# --------------------------------------------------------- interview panel


def test_the_panel_starts_the_clock_and_asks_what_is_chosen(capacity_visit, server):
    page = capacity_visit.page
    lab.open_notebook(page, server, "panel.ipynb")
    lab.run_cell(page, 0)
    panel = page.locator(".interview-panel")
    panel.get_by_role("button", name="Start").click()
    panel.get_by_role("button", name="Pause").wait_for()
    panel.get_by_role("combobox", name="question to ask").select_option("peak")
    panel.get_by_role("button", name="Ask (6 left)").click()
    panel.get_by_role("button", name="Ask (5 left)").wait_for()
    panel.get_by_role("button", name="Pause").click()
    panel.get_by_role("button", name="Resume").wait_for()
    assert lab.run_cell(page, TELL_CELL).split() == ["paused", "5"]
    lab.save_screenshot(page, "interview-panel")
    assert capacity_visit.outside == []
    assert capacity_visit.errors == []


# --------------------------------------------------------- outline panel


def test_the_outlines_follow_their_menus_and_can_be_copied_and_saved(capacity_visit, server):
    page = capacity_visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab.open_notebook(page, server, "outlines.ipynb")
    lab.run_cell(page, 0)
    panel = page.locator(".outline-panel")
    picture, status = panel.locator("img"), panel.locator(".op-status")
    picture.wait_for()
    for menu, wanted in [
        ("System", "fraud detection"),
        ("Scale", "medium"),
        ("p99, ms", "100"),
        ("Level", "Staff"),
    ]:
        before = picture.get_attribute("alt")
        panel.get_by_role("combobox", name=menu).select_option(label=wanted)
        page.wait_for_function(
            "old => document.querySelector('.outline-panel img').alt !== old", arg=before, timeout=20_000
        )
    assert lab.run_cell(page, TELL_CELL).strip() == "fraud detection;medium;100.0;Staff"
    assert picture.evaluate("image => image.naturalWidth > 0")
    panel.get_by_role("button", name="Copy as Markdown").click()
    page.wait_for_function("document.querySelector('.op-status').textContent === 'Copied.'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == panel.locator("textarea").input_value()
    assert copied.startswith("# ")
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save as PDF, to print").click()
    assert download.value.suggested_filename == "fraud detection medium 100 ms Staff.pdf"
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")
    assert "Saved as" in status.text_content()
    lab.save_screenshot(page, "outline-panel")
    assert capacity_visit.outside == []
    assert capacity_visit.errors == []


@pytest.mark.parametrize(
    ("stack", "noted"),
    [
        ("Error: x\n    at f (http://127.0.0.1:1/static/lab/core.js:1:2)", False),
        (
            "Error: x\n    at f (http://127.0.0.1:1/static/lab/core.js:1:2)\n    at render (blob:http://127.0.0.1)",
            True,
        ),
        ("", True),
    ],
)
def test_an_error_counts_unless_it_is_jupyterlabs_own(stack, noted):
    seen = lab.Visit(page=None)
    seen.note_error("x", stack)
    assert bool(seen.errors) == noted
