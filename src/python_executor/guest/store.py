"""What a sandbox can be shown at /venv, kept where no sandbox sees it: environments, and the tool that makes them.

    store      a mount namespace of its own, the one in which the box was built; /store is there, and nobody is in it
    zygote     a copy of that without /store, which each sandbox copies again
    sandbox    gets one directory of the store at /venv, before its spec

What is shown is an overlay, so that /proc/self/mountinfo tells no path of the host, and read-only.
"""

from __future__ import annotations

import os
from typing import Dict, Tuple

import kernel

STORE = "/store"
TARGET = "/venv"
OWN = "/proc/self/ns/mnt"
EMPTY = "/run"
ATTRIBUTES = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_RDONLY
ENVIRONMENTS = "environments/"  # below it, directories that come and go while we run


class Store:
    """Entered and left again by the zygote, which has one thread."""

    def __init__(self) -> None:
        self.namespace = os.open(OWN, os.O_RDONLY)
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.umount_detach(STORE)
        self.own = os.open(OWN, os.O_RDONLY)
        self.mounted: Dict[str, Tuple[int, int]] = {}  # and which directory that was, by device and inode

    def show(self, name: str, sandbox: int) -> None:
        """To the sandbox of the process behind this pidfd: a directory of the store, such as "uv"."""
        shown = -1
        try:
            kernel.setns(self.namespace, kernel.CLONE_NEWNS)
            shown = kernel.copy_mount(self.place_of(name))
            kernel.mount_setattr(shown, ATTRIBUTES, recursive=True)
            kernel.setns(sandbox, kernel.CLONE_NEWNS)
            kernel.move_mount(shown, TARGET)
        finally:
            self.leave()
            if shown >= 0:
                os.close(shown)

    def leave(self) -> None:
        """Back to our own; a zygote that stayed elsewhere would make its sandboxes there."""
        try:
            kernel.setns(self.own, kernel.CLONE_NEWNS)
        except OSError:
            os._exit(1)

    def place_of(self, name: str) -> str:
        """Where it is to be copied from; mounted there now, if it was never asked for.

        Anybody may have removed it, and made it again: what is mounted is then the one that is gone.
        """
        if not name.startswith(ENVIRONMENTS):
            return f"{STORE}/{name}"
        place = f"{STORE}/mounts/{name}"
        found = os.stat(f"{STORE}/{name}")  # no other gets the inode while it is mounted
        identity = found.st_dev, found.st_ino
        if self.mounted.get(name) != identity:
            if self.mounted.pop(name, None) is not None:
                kernel.umount_detach(place)
            os.makedirs(place, exist_ok=True)
            overlay(f"{STORE}/{name}", place)
            self.mounted[name] = identity
        return place

    def forget(self, name: str) -> None:
        """Let go of one that is about to be removed; sandboxes that are shown it keep it."""
        if name in self.mounted:
            del self.mounted[name]
            kernel.setns(self.namespace, kernel.CLONE_NEWNS)
            try:
                kernel.umount_detach(f"{STORE}/mounts/{name}")
            finally:
                self.leave()


def overlay(source: str, place: str) -> None:
    """Named relative to where we stand, as in box.py; where there are no overlays, a bind."""
    os.chdir(source)
    try:
        kernel.mount("box", place, "overlay", kernel.MS_RDONLY, f"lowerdir=.:{EMPTY}")
    except OSError:
        kernel.mount(".", place, None, kernel.MS_BIND | kernel.MS_REC)
    finally:
        os.chdir("/")
