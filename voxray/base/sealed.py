"""A value that nobody sees by accident: not in a log, a repr, an error or a status page."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Sealed(Generic[T]):
    """Holds a value; only `open` shows it. It is pickled with its value.

    Arguments of actors go sealed: whatever prints them, a traceback or a page of the dashboard,
    prints this instead.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def open(self) -> T:
        """Return the value."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and self._value == other._value

    __hash__ = None  # type: ignore[assignment]  # As its value may be unhashable.

    def __repr__(self) -> str:
        return "Sealed(**********)"
