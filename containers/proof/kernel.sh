#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# One kernel, ready to be booted: its packages unpacked, or what is installed of it in tree/, the modules that proving may need picked out and uncompressed.
# Results: /out/vmlinuz, /out/release, /out/modules/lib/modules/RELEASE.
#   kernel.sh DIRECTORY-OF-PACKAGES MODULE...
set -eu
packages=$1
shift
mkdir /build/kernel /out/modules
for package in "$packages"/*.deb; do
	[ ! -e "$package" ] || dpkg-deb -x "$package" /build/kernel
done
[ ! -d "$packages/tree" ] || cp -r "$packages/tree/." /build/kernel
cd /build/kernel
if [ -d usr/lib/modules ]; then
	mkdir -p lib
	mv usr/lib/modules lib/
fi
release=$(ls lib/modules)
case $release in
'' | *[[:space:]]*) echo "these packages hold modules of not exactly one kernel: $release" >&2; exit 1 ;;
esac
for image in boot/vmlinuz-* "lib/modules/$release/vmlinuz"; do
	if [ -e "$image" ]; then cp "$image" /out/vmlinuz; fi
done
if [ ! -e /out/vmlinuz ]; then
	echo "these packages hold no kernel image" >&2
	exit 1
fi
echo "$release" > /out/release
depmod -b . "$release"
for module in "$@"; do
	modprobe -d . -S "$release" --show-depends "$module" 2>/dev/null || echo "absent $module" >> /out/absent
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u > /build/closure
while read -r path; do
	path=${path#./}
	target=/out/modules/${path#/build/kernel/}
	mkdir -p "$(dirname "$target")"
	case $path in
	*.xz) xz -dc "$path" > "${target%.xz}" ;;
	*.zst) zstd -qdc "$path" > "${target%.zst}" ;;
	*.gz) gzip -dc "$path" > "${target%.gz}" ;;
	*) cp "$path" "$target" ;;
	esac
done < /build/closure
mkdir -p "/out/modules/lib/modules/$release" # a kernel may have all of them built in
# What depmod knows of the parts that are no files; packages of Linux 7.2 come without modules.order.
for index in modules.builtin modules.builtin.modinfo modules.order; do
	if [ -e "lib/modules/$release/$index" ]; then
		cp "lib/modules/$release/$index" "/out/modules/lib/modules/$release/"
	fi
done
