"""Lock on a bag that tells a program at work on it from one that was killed.

The lock is `flock` on the bag's MCAP file: the kernel releases it when its holder ends, however it ends, and it acts
across processes and users. A file system that keeps no locks is recognized by its answer. There a bag whose file
changed within :data:`FRESH` seconds counts as in use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

FRESH = 30.0
"""Age of a file's last change below which a bag without locks counts as in use [s]."""
PATIENCE = 2.0
"""Longest wait for another program's lock [s]."""
RETRY = 0.02
"""Time between two tries for a lock [s]."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}


class BagInUse(OSError):
    """A bag that another program writes or changes."""

    def __init__(self, path: Path):
        super().__init__(errno.EBUSY, "another program is recording or changing it: try again when that has ended")
        self.filename = str(path)


class BagLock:
    """Exclusive lock on a bag's open file, held until :meth:`release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int, patience: float = PATIENCE):
        """Lock the file open as `descriptor`, which is duplicated. Raises BagInUse after `patience` [s]."""
        self._descriptor: int | None = os.dup(descriptor)
        try:
            _lock(path, self._descriptor, patience)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> BagLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_bag(bag: Path, patience: float = PATIENCE) -> BagLock:
    """Lock a bag directory by its first MCAP file, or itself where it has none.

    Raises OSError, and BagInUse after `patience` [s].
    """
    files = sorted(bag.glob("*.mcap"))
    descriptor = _open(files[0] if files else bag)
    try:
        return BagLock(bag, descriptor, patience)
    finally:
        os.close(descriptor)


def in_use(bag: Path) -> bool:
    """Return True while another program records, repairs, labels or moves the bag directory."""
    return any(_locked(file) for file in sorted(bag.glob("*.mcap")))


def _open(file: Path) -> int:
    """Open for locking. A network file system grants an exclusive lock on a writable file alone."""
    try:
        return os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)


def _lock(path: Path, descriptor: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise BagInUse(path) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return
        time.sleep(RETRY)


def _locked(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return error.errno in _NO_LOCKS and time.time() - os.fstat(descriptor).st_mtime < FRESH
    finally:
        os.close(descriptor)
    return False
