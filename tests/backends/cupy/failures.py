"""Many cases in one test, whose failures are reported together: a run on a GPU is too dear to stop at the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_SHOWN = 60


class Failures:
    """The failed cases of a test, which fails at the end of ``with Failures()``."""

    def __init__(self) -> None:
        self.cases = 0
        self.lines: list[str] = []

    @contextmanager
    def case(self, name: Any) -> Iterator[None]:
        """Run one case; note the error that it raises."""
        self.cases += 1
        try:
            yield
        except Exception as error:
            text = " ".join(str(error).split())
            self.lines.append(f"{name}: {type(error).__name__}: {text[:300]}")

    def __enter__(self) -> Failures:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None and self.lines:
            shown = [*self.lines[:_SHOWN], *(["..."] if len(self.lines) > _SHOWN else [])]
            pytest.fail("\n".join([f"{len(self.lines)} of {self.cases} cases failed", *shown]), pytrace=False)


@contextmanager
def captures_succeed(device: Any) -> Iterator[None]:
    """Fail if the device refuses a capture: programs run without it, only slower, and say so in a note."""
    refused: list[str] = []
    capture = device.capture

    def watched(*work: Any) -> Any:
        try:
            return capture(*work)
        except Exception as error:
            refused.append(str(error))
            raise

    device.capture = watched
    try:
        yield
    finally:
        del device.capture
    assert not refused, f"not captured: {refused}"
