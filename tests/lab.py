"""Drive a private JupyterLab in a real browser, as a learner would: open, run all, look.

Everything stays on 127.0.0.1: the server has its own folders, port and token, and stops at the end.
Playwright is optional, so it is imported only where a browser starts.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOST = "127.0.0.1"
START_SECONDS = 60
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
CHROMIUM_PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)

# JupyterLab asks on its first start whether to fetch news; nobody is here to answer.
QUIET = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
NOTIFICATIONS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome: the environment's CHROMIUM, one on the PATH, or a usual place."""
    candidates = [os.environ.get("CHROMIUM"), *map(shutil.which, CHROMIUM_NAMES), *CHROMIUM_PATHS]
    return next((path for path in candidates if path and Path(path).exists()), None)


@dataclass(frozen=True)
class Server:
    """A running JupyterLab."""

    url: str
    token: str

    def address(self, path: str) -> str:
        """Address of a path of this server, with the token."""
        return f"{self.url}/{path}?token={self.token}"


@contextmanager
def jupyter_lab(root: Path) -> Iterator[Server]:
    """A JupyterLab on the folder `root`, with settings of its own; it stops when the block ends."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        server = Server(f"http://{HOST}:{_free_port()}", secrets.token_hex(16))
        log = Path(home, "server.log")
        with log.open("w") as output:
            process = subprocess.Popen(
                _command(server, root), env=_environment(Path(home)), stdout=output, stderr=subprocess.STDOUT
            )
            try:
                _wait_for(server, process, log)
                yield server
            finally:
                process.terminate()
                process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _command(server: Server, root: Path) -> list[str]:
    arguments = [
        "--no-browser",
        "--expose-app-in-browser",  # the page then has `jupyterapp`, whose commands the tests call
        f"--ip={HOST}",
        f"--port={urlsplit(server.url).port}",
        f"--IdentityProvider.token={server.token}",
        f"--ServerApp.root_dir={root}",
    ]
    return [sys.executable, "-m", "jupyterlab", *arguments, *(["--allow-root"] if _is_root() else [])]


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _environment(home: Path) -> dict[str, str]:
    """The user's environment, with every folder that Jupyter writes to inside `home`."""
    settings = home / "settings"
    notifications = settings / NOTIFICATIONS
    notifications.parent.mkdir(parents=True)
    notifications.write_text(json.dumps(QUIET))
    folders = {
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "IPYTHONDIR": home / "ipython",
        "JUPYTERLAB_SETTINGS_DIR": settings,
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    return os.environ | {name: str(path) for name, path in folders.items()}


def _wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
        time.sleep(0.1)


def _answers(server: Server) -> bool:
    try:
        return urlopen(server.address("api/status"), timeout=2).status == 200
    except (URLError, ConnectionError, TimeoutError):
        return False


@dataclass
class Visit:
    """A page in the browser, and what it did that it should not."""

    page: Page
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def note_address(self, url: str) -> None:
        """Remember an address that is not on this machine."""
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "file") and parts.hostname != HOST:
            self.outside.append(url)

    def note_error(self, message: str, stack: str) -> None:
        """Remember an error of a script, unless every frame of its stack is JupyterLab's own code.

        On a busy machine JupyterLab itself at times removes a node twice; that says nothing of a notebook.
        """
        frames = [line for line in stack.splitlines() if line.strip().startswith("at ")]
        if not frames or not all("/static/lab/" in frame for frame in frames):
            self.errors.append(f"{message} {stack}")


@contextmanager
def visit(width: int = 1280, height: int = 1000) -> Iterator[Visit]:
    """A page in a headless Chromium that notes requests to the outside and errors on the console."""
    from playwright.sync_api import sync_playwright

    # Chromium refuses its sandbox to the root user, as in most containers.
    arguments = ["--no-sandbox"] if _is_root() else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        page = browser.new_page(viewport={"width": width, "height": height})
        seen = Visit(page)
        page.on("request", lambda request: seen.note_address(request.url))
        page.on("websocket", lambda socket: seen.note_address(socket.url))
        page.on("pageerror", lambda error: seen.note_error(str(error), error.stack or ""))
        page.on("console", lambda note: seen.errors.append(note.text) if note.type == "error" else None)
        yield seen
        browser.close()


def open_notebook(page: Page, server: Server, name: str) -> None:
    """Open a notebook of the server in the single-document view; returns when its kernel is ready."""
    page.goto(server.address(f"doc/tree/{name}"))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=60_000)
    page.evaluate(
        """async () => {
          const context = window.jupyterapp.shell.currentWidget.sessionContext;
          await context.ready;
          await context.session.kernel.info;
        }"""
    )


def run_all(page: Page, seconds: float = 300) -> None:
    """Run All, as from the menu; returns when every cell has run or one has failed."""
    page.evaluate(
        """() => {
          window.ranAll = false;
          window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ranAll = true; });
        }"""
    )
    page.wait_for_function("() => window.ranAll", timeout=1000 * seconds)


def run_cell(page: Page, index: int) -> str:
    """Run one code cell by its position among the code cells; returns the plain text of its result."""
    return page.evaluate(
        """async (index) => {
          const notebook = window.jupyterapp.shell.currentWidget.content;
          const cells = notebook.widgets.filter(cell => cell.model.type === 'code');
          notebook.activeCellIndex = notebook.widgets.indexOf(cells[index]);
          await window.jupyterapp.commands.execute('notebook:run-cell');
          const text = output => [output.data?.['text/plain'] ?? output.text ?? ''].flat().join('');
          return cells[index].model.outputs.toJSON().map(text).join('');
        }""",
        index,
    )


def cell_states(page: Page) -> list[dict[str, Any]]:
    """For each code cell that is not empty: `source`, `count` (None: not run), `error` (or None)."""
    return page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
          .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim())
          .map(cell => {
            const error = cell.model.outputs.toJSON().find(output => output.output_type === 'error');
            const mayFail = (cell.model.getMetadata('tags') ?? []).includes('raises-exception');
            return {
              source: cell.model.sharedModel.source,
              count: cell.model.executionCount,
              error: error && !mayFail ? `${error.ename}: ${error.evalue}` : null,
            };
          })"""
    )


def save_screenshot(page: Page, name: str) -> None:
    """Save what the page shows to the folder in the environment's LAB_SCREENSHOTS, if it is set."""
    if folder := os.environ.get("LAB_SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"))
