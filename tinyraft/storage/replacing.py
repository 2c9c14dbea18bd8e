"""A small file that is written whole, in place of the one before.

Law: after a crash there is the old one or the new one, and when `replace_file` has returned it is
the new one.
"""

from __future__ import annotations

from pathlib import Path

from tinyraft.storage.disk import Disk


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Let *path* hold *data*; blocks until that is on disk.

    Raises:
        OSError: The disk failed; the old file, if any, may still stand.
    """
    temporary = path.with_name(path.name + ".tmp")
    if disk.exists(temporary):
        disk.unlink(temporary)
    file = disk.create(temporary)
    try:
        file.pwrite(data, 0)
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.sync_dir(path.parent)
