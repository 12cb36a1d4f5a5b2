#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Name what the module calls and the kernel does not export: declared it is,
# and before 6.3 modpost only warns, so the rest would be told by insmod.
#
#	exported.sh MODULE SYMVERS
#
# Without a SYMVERS nothing is known, and nothing said.

set -eu

[ -s "$2" ] || exit 0
nm -u "$1" | awk -v symvers="$2" '
BEGIN {
	while ((getline line < symvers) > 0) {
		split(line, field, "\t")
		exported[field[2]] = 1
	}
}
# What the linker makes itself
$2 ~ /^(_GLOBAL_OFFSET_TABLE_|\.TOC\.|_(save|rest)[fg]pr_)/ { next }
$1 == "U" && !($2 in exported) { missing = missing " " $2 }
END {
	if (missing) {
		print "TARPIT: the kernel does not export" missing > "/dev/stderr"
		exit 1
	}
}'
