"""What a learner did, in one JSON file: replaced whole, and kept aside when it cannot be read.

A crash while saving leaves the old file. One kernel at a time writes a file.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # what damaged JSON raises


@dataclass(frozen=True)
class StateFile:
    """Where the state of one kind of thing is saved: `kind` names it, `version` its layout.

    Raises ValueError unless the path ends in .json: whatever lies there may be put aside.
    """

    path: Path
    kind: str
    version: int

    def __post_init__(self) -> None:
        """Refuse a path to anything but a JSON file."""
        if Path(self.path).suffix != ".json":
            raise ValueError(f"{self.path} is no place for the {self.kind}: give a path that ends in .json.")

    def save(self, content: Mapping[str, Any]) -> None:
        """Write the content, which JSON must be able to hold, in place of what was saved before.

        Raises OSError, with the repair, when the folder cannot be written to.
        """
        saved = {"kind": self.kind, "version": self.version, "content": content}
        text = json.dumps(saved, indent=1, allow_nan=False)
        part = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except OSError as error:
            raise self._refusal("save", error) from error

    def load(self, restore: Callable[[dict[str, Any]], T]) -> tuple[T | None, str]:
        """Return what `restore` makes of the saved content, and "" - or None and a sentence that says why.

        Without a file it is None and "". A file that is damaged, of another kind or version, or whose content
        `restore` refuses by an error, is renamed, and the sentence tells how it is called now.
        Raises OSError, with the repair, when the file cannot be read or renamed.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            raise self._refusal("read", error) from error
        try:
            return restore(self._content(json.loads(raw))), ""
        except UNREADABLE as error:
            return None, self._put_aside(error)

    def _content(self, saved: dict[str, Any]) -> dict[str, Any]:
        """The content of a file of this kind and version. Raises ValueError for any other."""
        if saved["kind"] != self.kind:
            raise ValueError(f"it holds the {saved['kind']}, not the {self.kind}")
        if saved["version"] != self.version:
            raise ValueError(f"its version is {saved['version']}, and this program reads {self.version}")
        return saved["content"]

    def _put_aside(self, error: Exception) -> str:
        """Rename the file; return the sentence about it."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.aside-{number}.json")).exists():
            number += 1
        try:
            os.rename(self.path, aside)
        except OSError as refused:
            raise self._refusal("put aside the unreadable", refused) from refused
        return (
            f"**{self.path.name} could not be used** ({_reason(error)}). It is kept, unchanged, as "
            f"{aside.name}, and a new {self.kind} begins. To try the old file again, rename it back."
        )

    def _refusal(self, action: str, error: OSError) -> OSError:
        reason = error.strerror or error
        return OSError(
            f"Cannot {action} {self.kind} {self.path.name} in {self.path.parent}: {reason}. "
            "Give a path in a folder that you may write to."
        )


def _reason(error: Exception) -> str:
    """Say in words why a file cannot be used."""
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "it is damaged: no JSON"
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return str(error) if type(error) is ValueError else "its layout is wrong"
