"""One check of the conformance kit: how it is decided and what it says."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """The outcome of one check. `passed` is None where it does not apply or only informs."""

    name: str
    passed: bool | None
    detail: str = ""


class FailedError(Exception):
    """A check found a fault; the message says which."""


class NotApplicableError(Exception):
    """A check has nothing to decide; the message says why."""


def outcome(name: str, decide: Callable[[], str]) -> Check:
    """Decides a check. `decide` returns a remark, or raises `FailedError` or `NotApplicableError`.

    Anything else that it raises comes from the method, and is the finding.
    """
    try:
        return Check(name=name, passed=True, detail=decide())
    except FailedError as error:
        return Check(name=name, passed=False, detail=str(error))
    except NotApplicableError as error:
        return Check(name=name, passed=None, detail=str(error))
    except Exception as error:
        return Check(name=name, passed=False, detail=f"raised {type(error).__name__}: {error}")
