#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Name what the modules call and neither the kernel nor one of them exports:
# declared it is, and before 6.3 modpost only warns, so the rest would be told
# by insmod.
#
#	exported.sh SYMVERS MODULE...
#
# Without a SYMVERS nothing is known, and nothing said.

set -eu

[ -s "$1" ] || exit 0
symvers=$1
shift
nm "$@" | awk -v symvers="$symvers" '
BEGIN {
	while ((getline line < symvers) > 0) {
		split(line, field, "\t")
		exported[field[2]] = 1
	}
}
# What the linker makes itself
$2 ~ /^(_GLOBAL_OFFSET_TABLE_|\.TOC\.|_(save|rest)[fg]pr_)/ { next }
$2 ~ /^[A-Za-z]$/ && sub(/^__ksymtab_/, "", $3) { exported[$3] = 1 }
$1 == "U" && !seen[$2]++ { called[++count] = $2 }
END {
	for (i = 1; i <= count; i++)
		if (!(called[i] in exported))
			missing = missing " " called[i]
	if (missing) {
		print "TARPIT: the kernel does not export" missing > "/dev/stderr"
		exit 1
	}
}'
