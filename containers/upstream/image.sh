#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A whole kernel.  Results: /out/vmlinuz, /out/release, /out/config, /out/modules/*.ko.
#   KIMAGE               what the Makefile calls the image
#   /request/patch       the in-tree form of TARPIT, if the kernel is to have it
#   for the rest see configure.sh
# shellcheck disable=SC2154
set -eu
# shellcheck source=containers/upstream/lib.sh
. /scripts/lib.sh
# shellcheck source=containers/upstream/configure.sh
. /scripts/configure.sh

[ ! -e /request/patch ] || apply /request/patch "$linux"
configure
echo "configured"
run_kconfig modules_prepare
echo "prepared"
run_make "$KIMAGE"
echo "image built"
run_make modules
for image in "$linux"/arch/*/boot/"$KIMAGE"; do
	[ -h "$image" ] || cp "$image" /out/vmlinuz
done
mkdir /out/modules
find "$linux/" -name '*.ko' | while read -r module; do
	finish "$module"
	cp "$module" /out/modules/
done
cp "$linux/.config" /out/config
cp "$linux/include/config/kernel.release" /out/release
