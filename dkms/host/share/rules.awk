# SPDX-License-Identifier: GPL-2.0-only
# From the output of iptables-save -c: rules that use TARPIT and the chains of xt-tarpit-chain(8).
# Give family and backend; text.awk comes first.

/^\*/ {
	table = substr($0, 2)
	next
}

/^:/ {
	name = substr($1, 2)
	if (name == "TARPIT") shadowed[table] = 1
	if (name ~ /^XT-TARPIT(-INPUT|-FORWARD)?$/) {
		state[table, name] = "open"
		order[++chains] = table SUBSEP name
	}
	next
}

/^\[/ {
	bare = $0
	gsub(/"([^"\\]|\\.)*"/, "\"\"", bare)
	gsub(/ --comment [^ ]+/, "", bare)
	target = ""
	if (match(bare, / -[jg] [^ ]+/)) target = substr(bare, RSTART + 4, RLENGTH - 4)
	chain = $3
	if (target == "TARPIT" && !(table in shadowed)) {
		rule()
		if ((table, chain) in state) state[table, chain] = "armed"
	} else if ((target == "DROP" || target == "REJECT") && state[table, chain] == "open")
		state[table, chain] = "drop"
	if (target != "" && target != chain) jumps[table, target]++
}

END {
	OFS = "\t"
	for (i = 1; i <= chains; i++) {
		split(order[i], part, SUBSEP)
		print "chain", family, backend, encoded(part[1]), part[2], state[order[i]], jumps[order[i]] + 0
	}
}

function rule(    after, mode, counters) {
	after = substr(bare, RSTART + RLENGTH)
	mode = "tarpit"
	if (match(after, / --[a-z]+/)) mode = substr(after, RSTART + 3, RLENGTH - 3)
	split(substr($1, 2), counters, /[]:]/)
	printf "rule\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", family, backend, encoded(table), encoded(chain),
		mode, counters[1], counters[2], encoded(substr($0, index($0, "] ") + 2))
}
