#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What differs from one proof to the next: the kernel's modules and the packages under proof, unpacked over the user
# land and indexed by depmod.  Beside packages, bare modules (.ko) and iptables extensions (.so) are put in their places.
# Result: /out/overlay.cpio.
#   overlay.sh RELEASE DIRECTORY-OF-MODULES DIRECTORY-OF-PACKAGES
set -eu
release=$1 modules=$2 packages=$3
root=/build/root
mkdir -p $root/usr/lib $root/usr/bin $root/usr/sbin /build/unpacked
for directory in bin sbin lib; do ln -s usr/$directory $root/$directory; done
cp -r "$modules/lib/modules" $root/usr/lib/
for package in "$packages"/*.deb; do
	[ -e "$package" ] || continue
	dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C $root -f -
done
for module in "$packages"/*.ko; do
	[ -e "$module" ] || continue
	mkdir -p "$root/usr/lib/modules/$release/updates"
	cp "$module" "$root/usr/lib/modules/$release/updates/"
done
for extension in "$packages"/*.so; do
	[ -e "$extension" ] || continue
	directory=$root/$(cd /land && dirname usr/lib/*/xtables/libxt_tcp.so)
	mkdir -p "$directory"
	cp "$extension" "$directory/"
done
find $root/usr/lib/modules -name '*.ko.xz' -exec xz -d {} +
find $root/usr/lib/modules -name '*.ko.zst' -exec zstd -qd --rm {} +
# depmod -b does not look for the target of an absolute link below its base.
find $root/usr/lib/modules -type l | while read -r link; do
	target=$(readlink "$link")
	case $target in
	/*) ln -sfnr "$root$target" "$link" ;;
	esac
done
# Of the documentation only the examples are of use: they are proven too.
find $root/usr/share/doc -type f ! -path '*/examples/*' -delete 2>/dev/null || true
rm -rf $root/usr/share/man $root/usr/src
depmod -b $root "$release"
cd $root
find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc --owner=+0:+0 > /out/overlay.cpio
