# SPDX-License-Identifier: GPL-2.0-only
#
# For probe.sh: from the list of probes and what the compiler said to the
# header. Variables: status, unit, log_file.

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
# The error before was not explained, and nothing that followed it did.
function settle() {
	if (doubtful)
		give_up("probe " doubtful " fails for a reason of its own: " doubt)
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
# What comes behind a limit is not known.
/^fatal error: too many errors|^compilation terminated due to -f/ {
	give_up("the compiler does not list all errors: " $0)
}
/: (fatal )?error: / {
	path = $0
	sub(/:[0-9].*/, "", path)
	message = $0
	sub(/.*: (fatal )?error: /, "", message)
	name = basename(path)
	if (path !~ /\/probes\/[A-Za-z0-9_]+\.c$/)
		give_up("the kernel headers do not compile: " $0)
	settle()
	if (name in missing)
		next
	missing[name] = 1
	if (!explains(message, name)) {
		doubtful = name
		doubt = message
	}
	next
}
# clang names a function that is called with other arguments only in a note.
/: note: / && doubtful {
	message = $0
	sub(/.*: note: /, "", message)
	if (explains(message, doubtful))
		doubtful = ""
}
END {
	if (failed)
		exit 1
	settle()
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
}
