"""A small file system of one's own, to fill and to make read-only, without touching anything else.

Linux lets a process have its own table of mounts; for anyone but root it has to be root of a user
namespace as well. Where the system forbids that, the cases that need it are skipped and say so.
"""

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from idbench.faults.session import FaultError, SkippedError

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 32, 0x4000, 1 << 18
_SKIPPED = 3  # exit code of the process that may not mount


class SmallDisk:
    """A file system at `folder`, seen by this process and its children only."""

    def __init__(self, folder: Path, size: int) -> None:
        """Mounts it with room for `size` bytes."""
        self.folder = folder
        self._ballast = folder / "ballast"
        self._mount(0, f"size={size}")

    def leave(self, free: int) -> None:
        """Fills the disk but for `free` bytes."""
        with self._ballast.open("wb", buffering=0) as stream:
            try:
                while stream.write(b"\0" * 4096) == 4096:
                    pass
            except OSError:  # full
                pass
        os.truncate(self._ballast, max(0, self._ballast.stat().st_size - free))

    def empty(self) -> None:
        """Takes away what filled it."""
        self._ballast.unlink(missing_ok=True)

    def read_only(self, wanted: bool) -> None:
        """Lets nobody write, or all again."""
        self._mount(_MS_REMOUNT | (_MS_RDONLY if wanted else 0), "")

    def _mount(self, flags: int, data: str) -> None:
        _call("mount", b"tmpfs", bytes(self.folder), b"tmpfs", flags, data.encode())


def with_small_disk(folder: Path, size: int, work: Callable[[SmallDisk], None]) -> None:
    """Calls `work` in a process that has a disk of `size` bytes at `folder`.

    Raises:
        SkippedError: If this system lets nobody do that.
        FaultError: If `work` raised anything.
    """
    if sys.platform != "linux":
        raise SkippedError("mounts of one's own need Linux")
    folder.mkdir(parents=True, exist_ok=True)
    answers, ours = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _worked(folder, size, work, ours)
        finally:
            os._exit(code)
    os.close(ours)
    with os.fdopen(answers) as stream:
        said = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == _SKIPPED:
        raise SkippedError(said)
    if code != 0:
        raise FaultError(said or f"the process with the small disk ended with {code}")


def _worked(folder: Path, size: int, work: Callable[[SmallDisk], None], answers: int) -> int:
    try:
        try:
            _separate()
            disk = SmallDisk(folder, size)
        except OSError as error:
            os.write(answers, f"no mounts of one's own here: {error}".encode())
            return _SKIPPED
        work(disk)
    except FaultError as error:
        os.write(answers, str(error).encode())
        return 1
    except Exception:
        os.write(answers, traceback.format_exc().encode())
        return 1
    return 0


def _separate() -> None:
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _call("unshare", _CLONE_NEWNS)
    else:
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def _call(name: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
