"""Exchange two folders in one step, if the system and the file system can."""

import ctypes
import errno
import os
import sys
from pathlib import Path

_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD, and the flag that Linux calls RENAME_EXCHANGE and macOS RENAME_SWAP."""
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def swap(one: Path, other: Path) -> bool:
    """Exchanges the names of two existing folders; at every moment both names exist.

    Returns False, and changes nothing, when the system or the file system cannot exchange folders. Raises OSError when
    they can but the exchange fails.
    """
    system = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            failed = system.renamex_np(first, second, ctypes.c_uint(_EXCHANGE))
        else:
            failed = system.renameat2(_HERE, first, _HERE, second, ctypes.c_uint(_EXCHANGE))
    except AttributeError:  # a C library that is older than the call
        return False
    if failed and (number := ctypes.get_errno()) not in _CANNOT:
        raise OSError(number, os.strerror(number), str(other))
    return not failed
