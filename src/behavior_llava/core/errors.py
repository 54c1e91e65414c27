"""The one exception that means "the input is at fault".

Everything a person can mend (a config, a path, a file, a missing device) is reported as a `UserError`; the
command line prints it alone and exits with code 2. Any other exception is a fault of ours and keeps its
trace.
"""


class UserError(Exception):
    """Bad input: what was found, where, what is accepted, what to do.

    Args:
        found: what is wrong, as one clause without a final stop.
        where: the place: a file, a row id, a config key. None where the sentence already names it.
        remedy: what to do about it, as one clause without a final stop.
    """

    def __init__(self, found: str, *, where: object = None, remedy: str | None = None) -> None:
        self.found = found
        self.where = where
        self.remedy = remedy
        message = found if where is None else f"{where}: {found}"
        super().__init__(message + (f"; {remedy}." if remedy else "."))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """The same error in another process; its place becomes a text."""
        return _again, (self.found, None if self.where is None else str(self.where), self.remedy)


def _again(found: str, where: str | None, remedy: str | None) -> UserError:
    return UserError(found, where=where, remedy=remedy)
