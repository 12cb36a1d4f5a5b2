#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The user land of the proving machine, once per suite: the programs below with their libraries and data, taken from
# this container, and the agent as /init.  Result: /out/rootfs.cpio, uncompressed, because a guest under TCG would
# spend longer on unpacking than the host on reading.
#   rootfs.sh DIRECTORY-OF-AGENT
set -eu
source=$1
root=/build/root

programs='cat sh mkdir ln iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore
	iptables-legacy iptables-legacy-save iptables-legacy-restore iptables-nft iptables-nft-save iptables-nft-restore
	ip6tables-legacy ip6tables-legacy-save ip6tables-legacy-restore
	ip6tables-nft ip6tables-nft-save ip6tables-nft-restore
	sysctl ip ss tc bridge kmod modprobe insmod rmmod lsmod depmod nmap conntrack'

mkdir -p $root/usr/bin $root/usr/sbin $root/usr/lib $root/usr/lib64 $root/etc $root/var/lib $root/root
for directory in bin sbin lib lib64; do ln -s usr/$directory $root/$directory; done

# Copies a file and the links on the way to it, each to the place that /bin, /lib … are merged into.
copy() {
	directory=$(readlink -f "$(dirname "$1")")
	path=$directory/$(basename "$1")
	[ ! -e "$root$path" ] || return 0
	mkdir -p "$root$directory"
	if [ -h "$path" ]; then
		cp -a "$path" "$root$path"
		case $(readlink "$path") in
		/*) copy "$(readlink "$path")" ;;
		*) copy "$directory/$(readlink "$path")" ;;
		esac
		return
	fi
	cp -a "$path" "$root$path"
	for library in $(ldd "$path" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p'); do
		copy "$library"
	done
}

for program in $programs; do
	copy "$(command -v "$program" || { echo "no $program in this suite" >&2; exit 1; })"
done
# Before glibc 2.34, libnss_files is what reads /etc/services and /etc/protocols; no program says that it needs it.
for path in /usr/lib/*/xtables/* /lib/*/libnss_files.so.2 /etc/protocols /etc/services /etc/iproute2/* /usr/share/iproute2/* \
	/etc/nsswitch.conf /usr/share/nmap/*; do
	if [ -f "$path" ] || [ -h "$path" ]; then copy "$path"; fi
done
cp -a /usr/share/nmap/scripts /usr/share/nmap/nselib $root/usr/share/nmap/
mkdir -p $root/run $root/proc $root/sys $root/dev $root/tmp
echo 'root:x:0:0::/root:/bin/sh' > $root/etc/passwd
echo 'root:x:0:' > $root/etc/group

musl-gcc -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -o $root/init "$source/agent.c"

cd $root
find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc --owner=+0:+0 > /out/rootfs.cpio
