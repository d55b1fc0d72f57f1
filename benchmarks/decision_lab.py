"""How fast the decision lab answers in a real browser, on 85,000 scores with 108 positives.

Measured in the page: from the key-down event to the last change of the document that it caused, and to the
frame that showed it. Needs `playwright` and a Chromium or Chrome.
"""

import inspect
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[1]))  # the driver of the browser lives with the tests

from helpers.widgets import DecisionLab
from tests import lab

KEYS = ["ArrowRight"] * 15 + ["ArrowLeft"] * 15  # 30 presses, each of which moves the slider
SLIDERS = {"threshold": "Flag when the score is at least", "prevalence": "Prevalence"}

# Notes for each key press when the page last changed, and which frame was the first to show the new numbers.
WATCH = """() => {
  const root = document.querySelector('.decision-lab');
  const log = window.benchmark = { presses: [], frames: 0 };
  const numbers = () => `${root.dataset.threshold} ${root.dataset.precision}`;
  let shown = numbers();
  document.addEventListener('keydown', () => log.presses.push({ down: performance.now() }), true);
  const changed = () => { if (log.presses.length) log.presses.at(-1).changed = performance.now(); };
  const everything = { subtree: true, childList: true, attributes: true, characterData: true };
  new MutationObserver(changed).observe(root.querySelector('.dl-charts'), everything);
  new MutationObserver(changed).observe(root, { attributes: true });
  const frame = (now) => {
    if (numbers() !== shown) {
      shown = numbers();
      log.frames += 1;
      log.presses.at(-1).framed = performance.now();
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""
READ = """() => {
  const { presses, frames } = window.benchmark;
  const since = key => presses.map(press => press[key] - press.down).filter(Number.isFinite);
  return { changed: since('changed'), framed: since('framed'), frames };
}"""


def make_data() -> dict[str, np.ndarray]:
    """Scores as crowded near 0 as those of a fraud model, with amounts of money."""
    rng = np.random.default_rng(0)
    y_true = np.zeros(85_000, int)
    y_true[rng.choice(len(y_true), 108, replace=False)] = 1
    logit = rng.normal(-7.5, 1.5, len(y_true)) + y_true * rng.normal(7.5, 3, len(y_true))
    amount = rng.lognormal(3.2, 1.6, len(y_true)).round(2)
    return {"y_true": y_true, "y_score": 1 / (1 + np.exp(-logit)), "amount": amount}


def write_notebook(folder: Path) -> None:
    """A notebook whose only cell shows the lab."""
    imports = "import numpy as np\nfrom helpers.widgets import DecisionLab\n\n"
    cell = new_code_cell(f"{imports}{inspect.getsource(make_data)}\nDecisionLab(**make_data(), cost_fp=5)")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[cell], metadata=kernel), folder / "lab.ipynb")


def press(page: Any, slider: str, pause_ms: float) -> dict[str, Any]:
    """Press the keys on a slider, with a pause after each; times of each press in ms."""
    page.evaluate(WATCH)
    page.get_by_role("slider", name=slider).focus()
    for key in KEYS:
        page.keyboard.press(key)
        page.wait_for_timeout(pause_ms)
    page.wait_for_timeout(500)
    return page.evaluate(READ)


def line(name: str, pause_ms: float, times: dict[str, Any]) -> str:
    """A row of the table: median and 95th percentile in ms, and frames shown."""
    middle = (
        f"{np.median(times[key]):.1f} | {np.quantile(times[key], 0.95):.1f}" for key in ("changed", "framed")
    )
    return f"| {name}, a key every {pause_ms} ms | {' | '.join(middle)} | {times['frames']} of {len(KEYS)} |"


def main() -> None:
    """Print what Python takes, then the table of what the browser takes."""
    data = make_data()
    start = time.perf_counter()
    explorer = DecisionLab(**data, cost_fp=5)
    print(f"In Python: built in {1000 * (time.perf_counter() - start):.0f} ms.")
    sent = {name: len(json.dumps(explorer.get_state(name))) / 1000 for name in ("tables", "_esm", "_css")}
    print("Sent once, kB: " + ", ".join(f"{name} {size:.0f}" for name, size in sent.items()))
    print("| slider | changed ms, median | p95 | in a frame ms, median | p95 | frames |")
    print("| --- | --- | --- | --- | --- | --- |")
    with TemporaryDirectory() as folder:
        write_notebook(Path(folder))
        with lab.jupyter_lab(Path(folder)) as server, lab.visit() as seen:
            lab.open_notebook(seen.page, server, "lab.ipynb")
            lab.run_all(seen.page)
            seen.page.wait_for_selector(".decision-lab[data-threshold]")
            for name, slider in SLIDERS.items():
                for pause_ms in (250, 33):
                    print(line(name, pause_ms, press(seen.page, slider, pause_ms)))


if __name__ == "__main__":
    main()
