"""Writing files whole: an interrupted write leaves the old file or none, never half of one."""

import contextlib
import os
import tempfile
from pathlib import Path


class StorageError(OSError):
    """The disk is full, read-only or gone: nothing more can be recorded, what is recorded stays."""


def write_whole(path: Path, data: bytes) -> None:
    """Writes `data` to `path` through a temporary name, fsync and rename.

    Raises:
        StorageError: If the file system refuses, naming the path and the fault.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        # mkstemp makes files that only the owner reads; results are as readable as any new file.
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(descriptor, 0o666 & ~umask)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; "
            "free space or choose another folder with --output, then run the same command again"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
