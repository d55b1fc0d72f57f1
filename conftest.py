"""Settings of every test, and hooks that make nbval strict and quick to fail.

By itself nbval passes a cell that writes to stderr, for example because a magic failed, passes a cell
that should have raised an exception and did not, goes on after a failed cell, waits to the end of the
timeout for a kernel that has died, and gives up when a kernel loses the race for its ports.
"""

import os
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import nbval.kernel
import pytest
from hypothesis import settings
from nbval.plugin import IPyNbCell

# The kernels inherit both. Threads that spin while they wait make scikit-learn many times slower.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["PYTHONHASHSEED"] = "0"

OUTPUT_SECONDS = 60  # to wait for one more output of a cell; nbval's 5 are too few on a busy machine
KERNEL_STARTS = 3  # times to try

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("repeatable")

start_once = nbval.kernel.start_new_kernel
await_reply = nbval.kernel.RunningKernel.await_reply


def start_new_kernel(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Start a kernel, again if it dies at once: another process may have taken one of its ports."""
    for _ in range(KERNEL_STARTS - 1):
        try:
            return start_once(*args, **kwargs)
        except RuntimeError:
            continue
    return start_once(*args, **kwargs)


def await_reply_or_death(kernel: Any, msg_id: str, timeout: float) -> None:
    """Wait for the reply to a cell; raise Empty after the timeout, or RuntimeError when the kernel died."""
    end = time.monotonic() + timeout
    while True:
        try:
            return await_reply(kernel, msg_id, timeout=1)
        except Empty:
            if not kernel.is_alive():
                raise RuntimeError("The kernel died while it ran this cell.") from None
            if time.monotonic() > end:
                raise


nbval.kernel.start_new_kernel = start_new_kernel
nbval.kernel.RunningKernel.await_reply = await_reply_or_death


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each cell time for its outputs; refuse a name that holds an address in memory.

    Such a name is another in each process, so that the workers of pytest-xdist would not agree.
    """
    if isinstance(item, IPyNbCell):
        item.output_timeout = OUTPUT_SECONDS
    if " at 0x" in item.nodeid:
        raise pytest.UsageError(f"{item.nodeid} has an address in its name: name its cases with `ids=`.")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the cells after a failed one: their failures would say nothing new."""
    failed = getattr(item.parent, "failed_cell", None)
    if failed is not None:
        pytest.skip(f"Cell {failed} of this notebook failed.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a cell for what nbval lets pass, and remember that the notebook has failed."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    try:
        result = yield
        check_outputs(item)
        return result
    except pytest.skip.Exception:
        raise
    except BaseException:
        item.parent.failed_cell = item.cell_num
        raise


def check_outputs(cell: IPyNbCell) -> None:
    """Fail a cell that wrote to stderr, or that raised nothing although its tag promises an exception."""
    stderr = "".join(out.text for out in cell.test_outputs if out.get("name") == "stderr")
    if stderr:
        cell.raise_cell_error("The cell wrote to stderr", stderr)
    raised = any(out.output_type == "error" for out in cell.test_outputs)
    if cell.options["check_exception"] and not raised:
        cell.raise_cell_error("The cell is tagged raises-exception, but raised nothing")
