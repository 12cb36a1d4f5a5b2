#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The modules for one kernel.  Results: /out/MODULE.ko, /out/tarpit.ko on kernels for it, /out/release, /out/config,
# /out/toolchain.txt; of an instrumented module also what gcov needs, /out/MODULE.gcno.
#   MODULE               name of the module; /src has MODULE.c and a Kbuild for it
#   /request/patch       the in-tree form of TARPIT; what it makes of the tree's files is a result, /out/patched/
#   /request/symvers     Module.symvers of the user's kernel, if there is one
#   for the rest see configure.sh
# shellcheck disable=SC2154
set -eu
# shellcheck source=containers/upstream/lib.sh
. /scripts/lib.sh
# shellcheck source=containers/upstream/configure.sh
. /scripts/configure.sh

# First of all, because a tree that the patch does not fit is not the one that was released.
if [ -e /request/patch ]; then
	changed /request/patch | while read -r file; do
		mkdir -p "/out/patched/$(dirname "$file")"
		[ ! -e "/kernel/$file" ] || cp "/kernel/$file" "/out/patched/$file"
	done
	apply /request/patch /out/patched
fi

configure
grep -q '^CONFIG_NETFILTER_XTABLES=[ym]' "$linux/.config" ||
	refuse "this configuration has no x_tables" "set CONFIG_NETFILTER_XTABLES and CONFIG_IP_NF_IPTABLES in it"
echo "configured"
run_kconfig modules_prepare
release=$(cat "$linux/include/config/kernel.release" 2>/dev/null || run_make kernelrelease)
echo "prepared $release"

if [ -e /request/symvers ]; then
	cp /request/symvers "$linux/Module.symvers"
	# A checksum covers the types that a symbol's declaration reaches: other types, other kernel.
	if grep -q '^CONFIG_MODVERSIONS=y' "$linux/.config"; then
		run_make net/netfilter/x_tables.o
		ours=$(nm "$linux/net/netfilter/x_tables.o" | sed -n 's/^0*\([0-9a-f]*\) A __crc_xt_register_target$/\1/p')
		theirs=$(sed -n 's/^0x0*\([0-9a-f]*\)\txt_register_target\t.*/\1/p' /request/symvers)
		if [ "$ours" != "$theirs" ]; then
			refuse "Module.symvers is of another kernel or configuration (xt_register_target has $theirs, not $ours)" \
				"take both files from the kernel that the module is for"
		fi
		echo "Module.symvers belongs to this kernel"
	fi
fi

compile_module
[ ! -e /request/symvers ] || sh /build/module/compat/exported.sh /request/symvers /build/module/*.ko
for built in /build/module/*.ko; do
	finish "$built"
	cp "$built" /out/
done
for notes in /build/module/*.gcno; do
	[ ! -e "$notes" ] || cp "$notes" /out/
done
cp "$linux/.config" /out/config
versions "sh /layer/cc" ld make > /out/toolchain.txt
echo "$release" > /out/release
echo "built $MODULE.ko for $release"
