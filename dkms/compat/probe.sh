#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Find out what the kernel tree at hand offers, by compiling compat/probes/*.c.
#
#	probe.sh OUTPUT PROBES-DIR COMPILER [FLAG...]
#
# All probes go through the compiler in one run, and each error is booked to
# the probe in whose file it is. A probe is named after the identifier that it
# looks for, and the compiler has to name it in its first complaint, or one of
# the identifiers that the probe lists as "Needs: ..."; any other error is
# fatal, because it says nothing about the kernel. OUTPUT is a header with one
# TARPIT_HAVE_... per probe that compiled; the compiler's own words stay beside
# it in OUTPUT.log.

set -eu
LC_ALL=C
export LC_ALL

output=$1
probes=$2
shift 2

unit=$output.c
log=$output.log
trap 'rm -f "$unit" "$output.tmp"' EXIT

for probe in "$probes"/*.c; do
	printf '#include "%s"\n' "$probe"
done > "$unit"

# Left alone, clang gives up after the 20th error.
case $("$@" --version 2>&1) in
*clang*) limit=-ferror-limit=0 ;;
*) limit=-fmax-errors=0 ;;
esac

status=0
"$@" "$limit" -fsyntax-only -x c "$unit" 2> "$log" || status=$?

awk -v status="$status" -v unit="$unit" -v log_file="$log" -f "${0%/*}/probe.awk" \
	"$unit" "$log" > "$output.tmp"

mv "$output.tmp" "$output"
