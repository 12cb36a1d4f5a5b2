# SPDX-License-Identifier: GPL-2.0-only
# For each file that names TARPIT: its place among the arguments, and how many rules do.  0 rules
# stands for a file that only jumps to our chain.

FNR == 1 { opened() }
/^[ \t]*(#|<!--)/ { next }
# A chain of that name is not the target.
/^:TARPIT / { own[at] = 1 }
/TARPIT/ {
	gsub(/--(comment|string|hex-string|log-prefix|nflog-prefix)[ =]("([^"\\]|\\.)*"|[^ ]+)/, "")
	if (/(^|[ \t>])(-[jg]|--jump|--goto)[ \t=]*"?TARPIT"?([ \t<;&|)]|$)/ || /xt target "?TARPIT/)
		rules[at]++
	else if (/(^|[ \t>])(-[jg]|--jump|--goto)[ \t=]*"?XT-TARPIT/)
		jumps[at] = 1
}
END {
	for (at = 1; at < ARGC; at++)
		if ((at in rules) && !(at in own)) print at, rules[at]
		else if (at in jumps) print at, 0
}

function opened() {
	do at++
	while (at < ARGC && ARGV[at] != FILENAME)
}
