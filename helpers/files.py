"""Publish a file with its manifest, so that a reader finds the old one or the new one, whole.

A directory holds manifest.json and the file that it names by checksum. A new file is written beside the old
one; replacing the manifest, in one step, publishes it, wherever the writer dies. The checksum finds damage,
not malice: load only what your own pipeline wrote.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shelf:
    """How one kind of thing is saved: `noun` names it, `format` its layout, `error` what a refusal raises."""

    noun: str
    format: int
    error: type[Exception]

    def publish(self, directory: Path, write: Callable[[IO[bytes]], Any], facts: Mapping[str, Any]) -> None:
        """Publish what `write` writes into a binary file, and the facts about it, both or neither.

        Replaces what `directory` held. One process writes, any number read. Killing the writer leaves the old
        file whole; what it left behind is removed by the next save. `facts` must be what JSON can hold.
        """
        directory.mkdir(parents=True, exist_ok=True)
        checksum = self._replace(directory, write)
        manifest = {"format": self.format, **facts, "sha256": checksum}
        text = json.dumps(manifest | {"seal": _seal(manifest)}, indent=1)
        self._replace(directory, lambda file: file.write(text.encode()), MANIFEST)
        for path in directory.glob(f"{self.noun}-*"):
            if path.name != f"{self.noun}-{checksum}":
                with suppress(PermissionError):  # Windows keeps a file being read: the next save removes it
                    path.unlink()

    def _replace(self, directory: Path, write: Callable[[IO[bytes]], Any], name: str | None = None) -> str:
        """Write a file that appears whole under its name, by default noun-SHA-256; return the SHA-256."""
        part = directory / f"{self.noun}-part"
        with part.open("w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(part, directory / (name or f"{self.noun}-{checksum}"))
        if os.name == "posix":  # elsewhere a directory cannot be opened
            descriptor = os.open(directory, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        return checksum

    @contextmanager
    def open(
        self, directory: Path, check: Callable[[dict[str, Any]], None]
    ) -> Iterator[tuple[IO[bytes], dict[str, Any]]]:
        """Open the published file; gives it, at its start, and its manifest.

        `check` may refuse the manifest before the file is read. What was checked is what is read, even if the
        file is replaced meanwhile. Raises the shelf's error if there is none, or it is damaged or cut short.
        """
        manifest, file = self._current(directory, check)
        with file:
            # A reader of binary formats may crash on damaged bytes, so they never reach one.
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest["sha256"]:
                raise self.error(f"The {self.noun} file is damaged or cut short: save the {self.noun} again.")
            file.seek(0)
            yield file, manifest

    def _current(
        self, directory: Path, check: Callable[[dict[str, Any]], None]
    ) -> tuple[dict[str, Any], IO[bytes]]:
        manifest = self.manifest(directory)
        check(manifest)
        try:
            return manifest, (directory / f"{self.noun}-{manifest['sha256']}").open("rb")
        except FileNotFoundError:
            if self.manifest(directory) != manifest:  # a new file was published in between
                return self._current(directory, check)
            raise self.error(
                f"The {self.noun} file in {directory.name} is missing: save the {self.noun} again."
            ) from None

    def manifest(self, directory: Path) -> dict[str, Any]:
        """Return the facts that were published; raises the shelf's error for none, damage, another format."""
        try:
            manifest = json.loads((directory / MANIFEST).read_bytes())
            seal, version = manifest.pop("seal"), manifest["format"]
        except FileNotFoundError:
            raise self.error(
                f"{directory.name} holds no saved {self.noun}: save one, or check the path."
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            seal = version = None
        if seal is None or seal != _seal(manifest):
            raise self.error(f"{MANIFEST} in {directory.name} is damaged: save the {self.noun} again.")
        if version != self.format:
            raise self.error(
                f"The {self.noun} in {directory.name} has format {version}, and this program reads "
                f"{self.format}: save the {self.noun} again with this program."
            )
        return manifest


def _seal(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of the content of a manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
