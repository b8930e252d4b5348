"""A remote file system with real directories, like SFTP: a stand-in on local disk, under ``server://``."""

from __future__ import annotations

from typing import ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class ServerFileSystem(LocalFileSystem):
    protocol: ClassVar[str] = "server"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("server://").rstrip("/")


fsspec.register_implementation("server", ServerFileSystem, clobber=True)
