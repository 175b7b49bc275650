"""Installs the few system packages that no wheel carries: by apt where we are root, else by telling people to.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess


class MissingPackage(RuntimeError):
    """A system package is missing and could not be installed; the message says what to do."""


def install(package: str, why: str) -> None:
    """Install a Debian or Ubuntu package.

    :param why: completes "PACKAGE is missing, which …".
    :raises MissingPackage: where we are not root, there is no apt, or it fails.
    """
    advice = f"{package} is missing, which {why}: run `apt-get install {package}` as root, then the same command again."
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingPackage(advice)
    print(f"Installing the system package {package}, which {why} …", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", package],
    ):
        done = subprocess.run(
            ["apt-get", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise MissingPackage(f"{advice} (apt-get: {' '.join(last)})")
