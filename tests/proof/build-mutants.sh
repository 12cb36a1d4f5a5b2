#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Every mutant as a module of its own name: /out/NAME.ko, and with the same fault, if it is one of what both share, the
# device: /out/device-of-NAME.ko; the device that is none: /out/tarpit.ko; the extension: /out/libxt_TARPIT.so.
#   build-mutants.sh KERNEL-ABI COMPILER   (source in /src, patches in /mutants)
set -eu
abi=$1 compiler=$2
cp -r /src /build/tree
cd /build/tree
make() { command make -s KDIR="/usr/src/linux-headers-$abi" "$@" >> /build/log 2>&1; }
make modules || { tail -n 20 /build/log; exit 1; }
make extension CC="$compiler" || { tail -n 20 /build/log; exit 1; }
cp libxt_TARPIT.so /out/
cp xt_TARPIT.ko /out/original.ko
cp tarpit.ko /out/
mkdir /build/original
cp ./*.[ch] /build/original/
for mutant in /mutants/*.patch; do
	name=$(basename "$mutant" .patch)
	cp /build/original/* .
	patch -s -p1 < "$mutant" || { echo "$name does not apply to dkms/ any more"; exit 1; }
	make modules || { echo "$name does not compile"; tail -n 20 /build/log; exit 1; }
	changed=xt_TARPIT
	! grep -q '^+++ b/tarpit\.c$' "$mutant" || changed=tarpit
	cp $changed.ko "/out/$name.ko"
	# What both share makes another device, too.
	! grep -q '^+++ b/tarpit_core\.h$' "$mutant" || cp tarpit.ko "/out/device-of-$name.ko"
done
