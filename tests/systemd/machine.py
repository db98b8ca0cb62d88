"""A machine under systemd, booted for a test: the real service manager and journald in namespaces of their own.

What it writes below /etc, /var, /run, /tmp and /opt is its own and gone with it; the rest is the host's, to read only.
The network is the host's too.
mmdaemon is at /opt/mmdaemon/bin/mmdaemon, this very checkout. It takes root, the tools of Debian's packages `systemd`
and `util-linux`, and a kernel that lets us: `why_not` says what is missing. It is asked for, by
`MMDAEMON_NEED_SYSTEMD=1`: a test suite has no business to begin a service manager on a machine unasked.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "mount", "systemctl", "journalctl", "systemd-sysusers", "systemd-tmpfiles")

# Closed before anything runs in it: a booting systemd removes what is in /tmp, sets kernel variables and more. So every
# file system of the host is read-only here, what must be written is a file system of its own, and the units that would
# set the machine up are masked. It is tried out before systemd is begun; where one try gets through, it is not begun.
CLOSED = """
set -e
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for own in /run /tmp /var /opt /dev/shm; do
    mount -t tmpfs -o mode=755 tmpfs $own
done
chmod 1777 /tmp /dev/shm
mkdir -p -m 1777 /var/tmp && mkdir -p /var/lib /var/log /var/cache && ln -s /run /var/run
cp -a /etc /run/etc && mount --bind /run/etc /etc
mkdir -p /opt/python /opt/mmdaemon/bin /opt/mmdaemon/lib/{version}/site-packages /opt/mmdaemon/src /run/systemd/system
mount --bind {base} /opt/python
mount --bind {packages} /opt/mmdaemon/lib/{version}/site-packages
mount --bind {root} /opt/mmdaemon/src
mount --bind /proc/sys /proc/sys
while read -r _ where _; do
    case $where in
        /run | /tmp | /var | /opt | /dev/shm | /etc | /sys/fs/cgroup | /proc | /dev/pts) ;;
        *) mount -o remount,bind,ro "$where" ;;
    esac
done < /proc/self/mounts
# Among ourselves: systemd hands credentials to a service by a mount that its namespace must see.
mount --make-rshared /
for host in / /usr /root /home {base} {packages} {root} /opt/python /opt/mmdaemon/src /sys /proc/sys/kernel; do
    if touch $host/mmdaemon-probe 2>/dev/null || test -w $host/hostname; then
        echo "$host can be written to from within: not booted" >&2
        exit 1
    fi
done
for own in /run /tmp /var /opt /dev/shm /var/tmp /etc; do
    if test "$(stat -f -c %T $own)" != tmpfs; then
        echo "$own is not a file system of its own: not booted" >&2
        exit 1
    fi
done
"""

BOOT = """
printf '#!/bin/sh\\nexec /opt/python/bin/python3 -m mmdaemon "$@"\\n' > /opt/mmdaemon/bin/mmdaemon
chmod 755 /opt/mmdaemon/bin/mmdaemon
rm -rf /etc/systemd/system/*
for unit in /lib/systemd/system/sysinit.target.wants/* /lib/systemd/system/timers.target.wants/*; do
    case $unit in *systemd-journald*) ;; *) ln -sf /dev/null "/etc/systemd/system/$(basename "$unit")" ;; esac
done
printf '[Unit]\\nRequires=systemd-journald.service\\nAfter=systemd-journald.service\\n' \\
    > /run/systemd/system/booted.target
mkdir -p /run/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\nForwardToSyslog=no\\n' > /run/systemd/journald.conf.d/test.conf
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_LOG_TARGET=journal \\
    {systemd} --system --unit=booted.target --show-status=no
"""

PACKAGES = f"/opt/mmdaemon/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
ENVIRONMENT = {
    "PATH": "/opt/mmdaemon/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LD_LIBRARY_PATH": "/opt/python/lib",
    "PYTHONPATH": f"/opt/mmdaemon/src:{PACKAGES}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SYSTEMD_PAGER": "cat",
}
"""Of a command in the machine. A unit gets the same by a drop-in."""


def why_not() -> str:
    """What keeps a machine from being booted here; empty: nothing that can be seen."""
    if os.geteuid() != 0:
        return "not root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"no {', '.join(missing)}"
    if not SYSTEMD.exists():
        return f"no {SYSTEMD}"
    return "" if _cgroup2() else "no cgroup2 file system"


def _cgroup2() -> Path | None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next((Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"), None)


class NotBooted(Exception):
    """It cannot be had here; says why."""


class Machine:
    """`run` what a person would type into a root shell of it."""

    def __init__(self, init_pid: int) -> None:
        self._enter = ["nsenter", "-t", str(init_pid), "-m", "-p", "-u", "-i", "-C", "--"]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self._enter, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S * 2, env=ENVIRONMENT, cwd="/", check=False
        )
        assert not check or done.returncode == 0, f"{shlex.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def write(self, path: str, text: str, mode: str = "644") -> None:
        folder = str(Path(path).parent)
        script = f"mkdir -p {folder} && cat > {path} && chmod {mode} {path}"
        subprocess.run([*self._enter, "sh", "-c", script], input=dedent(text), text=True, check=True, env=ENVIRONMENT)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def journal(self, *matches: str) -> str:
        """Messages that were written so far."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "-o", "cat", *matches, check=False).stdout

    def wait_for(self, what: str, holds: Callable[[], bool], unit: str = "") -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                told = self.run("systemctl", "status", "-l", "-n", "60", unit, check=False).stdout if unit else ""
                pytest.fail(f"waited {PATIENCE_S:g} s for {what}\n{told}")
            time.sleep(0.1)

    def booted(self) -> Self:
        self.wait_for("the machine to boot", self._is_up)
        return self

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-active", "booted.target", check=False).stdout.strip() == "active"


@contextmanager
def machine(folder: Path) -> Generator[Machine, None, None]:
    """Booted, and gone afterwards with every process in it. Raises NotBooted."""
    mounted = _cgroup2()
    if why := why_not():
        raise NotBooted(why)
    assert mounted is not None
    group = mounted / f"mmdaemon-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise NotBooted(f"{group}: {error.strerror}") from error
    script = (CLOSED + BOOT).format(
        base=shlex.quote(sys.base_prefix),
        packages=shlex.quote(sysconfig.get_path("purelib")),
        root=shlex.quote(str(ROOT)),
        version=f"python{sys.version_info.major}.{sys.version_info.minor}",
        systemd=SYSTEMD,
    )
    spaces = ["-m", "-p", "-f", "-C", "-u", "-i", "--mount-proc", "--propagation", "private", "--kill-child=KILL"]
    # The shell joins the group first, so that the machine's view of control groups begins there.
    command = f"echo $$ > {group}/cgroup.procs && exec {shlex.join(['unshare', *spaces, 'bash', '-c', script])}"
    with (folder / "boot.log").open("wb") as log:
        outer = subprocess.Popen(["bash", "-c", command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield Machine(_child(outer, folder / "boot.log")).booted()
    finally:
        outer.send_signal(signal.SIGKILL)
        outer.wait()
        _remove(group)


def _child(outer: subprocess.Popen[bytes], log: Path) -> int:
    """The first process of the machine."""
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if outer.poll() is not None:
            raise NotBooted(f"the machine ended with {outer.returncode}: {log.read_text()}")
        for pid in children.read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return int(pid)
        time.sleep(0.02)
    raise NotBooted(f"the machine did not boot: {log.read_text()}")


def _remove(group: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while group.exists():
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
            _rmdir(folder)
        if _rmdir(group) or time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _rmdir(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
