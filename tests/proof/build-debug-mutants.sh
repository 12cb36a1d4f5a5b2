#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Mutants as modules for a kernel that is built from source: /out/NAME.ko, and /out/original.ko.  Source in /src,
# patches in /mutants; INSTRUMENT as in lib.sh, for the rest see containers/upstream/configure.sh.
set -eu
# shellcheck source=containers/upstream/lib.sh
. /scripts/lib.sh
# shellcheck source=containers/upstream/configure.sh
. /scripts/configure.sh

configure
run_kconfig modules_prepare
echo "prepared"
for mutant in original /mutants/*.patch; do
	name=$(basename "$mutant" .patch)
	rm -rf /build/module
	mkdir /build/module
	cp -r /src/. /build/module
	[ "$name" = original ] || patch -s -p1 -d /build/module < "$mutant"
	# shellcheck disable=SC2086
	run_make M=/build/module ${INSTRUMENT:-} modules > /build/make.log 2>&1 || { echo "$name does not compile"; tail -n 20 /build/make.log; exit 1; }
	finish /build/module/xt_TARPIT.ko
	cp /build/module/xt_TARPIT.ko "/out/$name.ko"
	echo "built $name"
done
