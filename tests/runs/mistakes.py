"""What a mistake looks like."""

from __future__ import annotations


def sentence(found: int, err: str, code: int = 2) -> str:
    """The one sentence of a command that must have failed.

    Args:
        found: its exit code.
        err: what it wrote to stderr.
        code: the exit code that is right.
    """
    assert found == code, err
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, err
    assert err.splitlines()[-1] == errors[0]
    return errors[0]
