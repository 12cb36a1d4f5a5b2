# SPDX-License-Identifier: GPL-2.0-only
# From /proc/net/stat/xt_TARPIT, a row of hexadecimal numbers for each processor, to sums.

NR == 1 {
	for (i = 1; i <= NF; i++) name[i] = $i
	columns = NF
	next
}

{ for (i = 1; i <= columns; i++) sum[i] += hexadecimal($i) }

# The first column, "entries", is there for lnstat alone.
END { for (i = 2; i <= columns; i++) printf "counter\t%s\t%.0f\n", name[i], sum[i] }

# mawk has no strtonum().
function hexadecimal(text,    i, value) {
	for (i = 1; i <= length(text); i++)
		value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
	return value
}
