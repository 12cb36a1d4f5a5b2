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

status=0
"$@" -fsyntax-only -x c "$unit" 2> "$log" || status=$?

awk -v status="$status" -v unit="$unit" -v log_file="$log" '
function give_up(message) {
	print "TARPIT: " message > "/dev/stderr"
	print "TARPIT: the whole output of the compiler is in " log_file > "/dev/stderr"
	failed = 1
	exit 1
}
function basename(path) {
	sub(/.*\//, "", path)
	sub(/\.c$/, "", path)
	return path
}
function explains(message, name,	words, n, i) {
	n = split(name " " needs[name], words)
	for (i = 1; i <= n; i++)
		if (index(message, words[i]))
			return 1
	return 0
}
# The list of probes, from the #include lines.
FILENAME == unit {
	path = $2
	gsub(/"/, "", path)
	name = basename(path)
	order[++count] = name
	while ((getline line < path) > 0)
		if (sub(/.*Needs: /, "", line)) {
			sub(/[^A-Za-z0-9_ ].*/, "", line)
			needs[name] = line
		}
	close(path)
	next
}
/: (fatal )?error: / {
	path = $0
	sub(/:[0-9].*/, "", path)
	message = $0
	sub(/.*: (fatal )?error: /, "", message)
	name = basename(path)
	if (path !~ /\/probes\/[A-Za-z0-9_]+\.c$/)
		give_up("the kernel headers do not compile: " $0)
	if (name in missing)
		next
	if (!explains(message, name))
		give_up("probe " name " fails for a reason of its own: " message)
	missing[name] = 1
}
END {
	if (failed)
		exit 1
	if ("baseline_passes" in missing)
		give_up("not even the simplest probe compiles")
	if (!("baseline_fails" in missing))
		give_up("the compiler (exit code " status ") accepts what it must refuse")
	for (i = 1; i <= count; i++) {
		name = order[i]
		if (name ~ /^baseline_/)
			continue
		if (name in missing)
			printf "/* no %s */\n", name
		else
			printf "#define TARPIT_HAVE_%s 1\n", toupper(name)
	}
}' "$unit" "$log" > "$output.tmp"

mv "$output.tmp" "$output"
