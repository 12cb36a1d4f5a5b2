#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The user land of the proving machine, once per suite: the programs below with their libraries and data, taken from
# /land of this image, and the agent as /init.  They are of the guest's architecture, and none is run here.  Result:
# /out/rootfs.cpio, uncompressed, because a guest under TCG would spend longer on unpacking than the host on reading.
#   rootfs.sh DIRECTORY-OF-AGENT
set -eu
source=$1
land=/land
root=/build/root
readelf=$(command -v "$TRIPLET-readelf")
libraries=$(dirname "$(ls -d $land/usr/lib/*/xtables)")
libraries=${libraries#"$land"}

programs='cat dash mkdir ln iptables-legacy iptables-legacy-save iptables-legacy-restore
	iptables-nft iptables-nft-save iptables-nft-restore
	ip6tables-legacy ip6tables-legacy-save ip6tables-legacy-restore
	ip6tables-nft ip6tables-nft-save ip6tables-nft-restore
	sysctl ip ss tc bridge kmod modprobe insmod rmmod lsmod depmod nmap conntrack nft ethtool lnstat'

mkdir -p $root/usr/bin $root/usr/sbin $root/usr/lib $root/usr/lib64 $root"$libraries" $root/etc $root/var/lib $root/root
for directory in bin sbin lib lib64; do ln -s usr/$directory $root/$directory; done

# Copies a file of /land, its libraries, and the links on the way to it, each to the place that /bin, /lib ... are
# merged into.
copy() {
	directory=$(readlink -f "$land$(dirname "$1")")
	path=${directory#"$land"}/$(basename "$1")
	[ ! -e "$root$path" ] && [ ! -h "$root$path" ] || return 0
	mkdir -p "$root${directory#"$land"}"
	cp -a "$land$path" "$root$path"
	if [ -h "$land$path" ]; then
		case $(readlink "$land$path") in
		/*) copy "$(readlink "$land$path")" ;;
		*) copy "$(dirname "$path")/$(readlink "$land$path")" ;;
		esac
		return
	fi
	for library in $("$readelf" -ld "$land$path" 2>/dev/null |
		sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p; s/.*program interpreter: \(.*\)\]/\1/p'); do
		case $library in
		/*) copy "$library" ;;
		*)
			place=$(find_library "$library")
			[ "$place" = "$libraries/$library" ] || ln -sf "$place" "$root$libraries/$library"
			copy "$place"
			;;
		esac
	done
}

# Where a library is; one that alternatives would choose is in a folder of its own, as there may be others.
find_library() {
	for found in "$land"/usr/lib/*/"$1" "$land"/usr/lib/*/*/"$1" none; do [ ! -e "$found" ] || break; done
	[ "$found" != none ] || { echo "no $1 in this suite" >&2; exit 1; }
	echo "${found#"$land"}"
}

for program in $programs; do
	for place in usr/sbin usr/bin none; do [ ! -e "$land/$place/$program" ] || break; done
	[ "$place" != none ] || { echo "no $program in this suite" >&2; exit 1; }
	copy "/$place/$program"
done
# What maintainer scripts would have done.
[ -e $root/usr/bin/sh ] || ln -s dash $root/usr/bin/sh
for name in iptables ip6tables; do
	for end in '' -save -restore; do ln -s "$name-nft$end" "$root/usr/sbin/$name$end"; done
done
# Before glibc 2.34, libnss_files is what reads /etc/services and /etc/protocols; no program says that it needs it.
for path in "$land"/usr/lib/*/xtables/* "$land"/usr/lib/*/libnss_files.so.2 "$land"/etc/protocols "$land"/etc/services \
	"$land"/etc/iproute2/* "$land"/usr/share/iproute2/* "$land"/usr/share/nmap/*; do
	if [ -f "$path" ] || [ -h "$path" ]; then copy "${path#"$land"}"; fi
done
cp -a $land/usr/share/nmap/scripts $land/usr/share/nmap/nselib $root/usr/share/nmap/
mkdir -p $root/run $root/proc $root/sys $root/dev $root/tmp
echo 'root:x:0:0::/root:/bin/sh' > $root/etc/passwd
echo 'root:x:0:' > $root/etc/group

sh "$source/agent.sh" "$source" $root/init
sh "$source/agent.sh" "$source" $root/usr/bin/tarpit-fuzz fuzz
sh "$source/agent.sh" "$source" $root/usr/bin/tarpit-load load

cd $root
find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc --owner=+0:+0 > /out/rootfs.cpio
