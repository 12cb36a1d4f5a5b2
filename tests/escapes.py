"""What a program in a sealed run tries to get at, as whoever wrote it might."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = """
for way in docker.sock containerd/containerd.sock podman/podman.sock; do
	[ ! -e /run/$way ] || echo "reached $way"
done
find / -name "*$FOREIGN*" 2>/dev/null | sed 's/^/reached /'
mount -t tmpfs none /tmp 2>/dev/null && echo "reached mount"
unshare -Urm mount -t tmpfs none /mnt 2>/dev/null && echo "reached a namespace"
mknod /tmp/disk b 8 0 2>/dev/null && echo "reached mknod"
head -c 1 /dev/mem /dev/kmsg /dev/sda /dev/vda 2>/dev/null | grep -q . && echo "reached a device"
echo x 2>/dev/null > /proc/sysrq-trigger && echo "reached sysrq"
echo '|/tmp/x' 2>/dev/null > /proc/sys/kernel/core_pattern && echo "reached core_pattern"
echo x 2>/dev/null > /sys/fs/cgroup/cgroup.procs && echo "reached cgroups"
chroot /proc/1/root true 2>/dev/null && echo "reached chroot"
su -c true root 2>/dev/null < /dev/null && echo "reached root"
for input in /kernel /src /scripts /request /layer; do
	[ ! -e $input ] || ! touch $input/x 2>/dev/null || echo "reached $input"
done
[ "$(ls /proc | grep -c '^[0-9]')" -le 12 ] || echo "reached processes of the host"
grep -s . /etc/shadow > /dev/null && echo "reached shadow"
for way in tcp/172.17.0.1/$PORT tcp/127.0.0.1/$PORT udp/192.0.2.1/53; do
	timeout 5 bash -c "exec 3<>/dev/$way" 2>/dev/null && echo "reached $way"
done
echo tried
"""


@contextmanager
def escapes(folder: Path) -> Iterator[str]:
    """A script that says what it reached, line by line, and that it tried.

    There is something to reach while the block lasts: a file in *folder*, a volume, a server.
    """
    secret = f"tarpit-secret-{os.urandom(6).hex()}"
    (folder / secret).write_text(secret)
    volume = f"tarpit-builder-{secret}"
    subprocess.run(["docker", "volume", "create", volume], check=True, capture_output=True)
    try:
        with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104  (the bridge's, too)
            yield f"FOREIGN={secret} PORT={server.getsockname()[1]}\n{SCRIPT}"
    finally:
        subprocess.run(["docker", "volume", "rm", volume], check=True, capture_output=True)
