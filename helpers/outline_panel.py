"""A panel to leaf through the outlines: choose a system, a scale, a latency and a level, and see the page.

It shows what `outline` computes, so a cell without widgets gets the same page.
"""

from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import anywidget
import matplotlib.pyplot as plt
from traitlets import Dict, Enum, Float

from helpers.case_systems import SCALES, SYSTEMS
from helpers.interview import SENIORITIES
from helpers.outline import Outline, outline

LATENCIES = (50.0, 100.0, 200.0, 500.0)  # ms, to choose from


class OutlinePanel(anywidget.AnyWidget):
    """The outline of a chosen system, as a picture, as Markdown to copy, and as a page to save and print.

    The traits `system`, `scale`, `p99_ms` and `seniority` follow the menus, and the menus follow them.
    `outline` is the one on the screen.
    """

    _esm = Path(__file__).with_name("outline_panel.js")
    _css = Path(__file__).with_name("panel.css")

    menus = Dict().tag(sync=True)
    view = Dict().tag(sync=True)
    system = Enum([*SYSTEMS]).tag(sync=True)
    scale = Enum([*SCALES]).tag(sync=True)
    p99_ms = Float().tag(sync=True)
    seniority = Enum([*SENIORITIES]).tag(sync=True)

    def __init__(
        self,
        system: str = "video recommendation",
        scale: str = "large",
        p99_ms: float = 200,
        seniority: str = "Senior",
    ) -> None:
        """Show the outline of a system; the arguments are those of `outline`.

        Raises ValueError for an unknown system, scale or level, or a latency that no design reaches.
        """
        first = outline(system, scale, p99_ms, seniority)
        menus = {
            "system": [*SYSTEMS],
            "scale": [*SCALES],
            "p99_ms": sorted({*LATENCIES, float(p99_ms)}),
            "seniority": [*SENIORITIES],
        }
        super().__init__(menus=menus, system=system, scale=scale, p99_ms=p99_ms, seniority=seniority)
        self.view = _view(first)
        self.observe(lambda _: self._look(), [*menus])
        self.on_msg(lambda _, wish, __: self._send_page(wish))

    @property
    def outline(self) -> Outline:
        """The outline of the choice. Raises ValueError when no design answers in time."""
        return outline(self.system, self.scale, self.p99_ms, self.seniority)

    def _look(self) -> None:
        """Show the outline of the choice, or why there is none."""
        try:
            self.view = _view(self.outline)
        except ValueError as error:
            self.view = {"error": str(error)}

    def _send_page(self, wish: Any) -> None:
        """Send the page as PDF, when the browser asks for it and there is one."""
        if wish == "page" and "error" not in self.view:
            content = {"name": f"{self.system} {self.scale} {self.p99_ms:g} ms {self.seniority}.pdf"}
            self.send(content, [_drawn(self.outline, BytesIO(), "pdf")])

    def __repr__(self) -> str:
        """What stands in a page that shows no widgets."""
        said = self.view.get("alt") or self.view["error"]
        return f"OutlinePanel: {said} In JupyterLab, run this cell to choose another."


def _view(page: Outline) -> dict[str, str]:
    """What the browser shows of an outline."""
    return {"picture": _drawn(page, StringIO(), "svg"), "alt": page.alt, "markdown": page.markdown()}


def _drawn(page: Outline, file: BytesIO | StringIO, kind: str) -> Any:
    """The page as matplotlib writes it in this format."""
    ax = page.draw()
    ax.figure.savefig(file, format=kind)
    plt.close(ax.figure)
    return file.getvalue()
