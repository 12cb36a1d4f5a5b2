# SPDX-License-Identifier: GPL-2.0-only
# From the lines of "rules" to Prometheus' text format.  Give loaded; text.awk comes first.

BEGIN { FS = "\t" }

$1 == "rule" {
	key = labels() ",mode=" label($6)
	if (!(key in rules)) order[++count] = key
	rules[key]++
	packets[key] += $7
	octets[key] += $8
}

$1 == "chain" { armed[++chains] = labels() "} " ($6 == "armed" ? 1 : 0) }

END {
	head("xt_tarpit_module_loaded", "gauge", "Whether the kernel module xt_TARPIT is loaded.")
	print "xt_tarpit_module_loaded " loaded
	head("xt_tarpit_chain_armed", "gauge", "Whether a chain of xt-tarpit-chain holds connections (1) or only drops them (0).")
	for (i = 1; i <= chains; i++) print "xt_tarpit_chain_armed{" armed[i]
	head("xt_tarpit_rules", "gauge", "Rules with the target TARPIT.")
	for (i = 1; i <= count; i++) print "xt_tarpit_rules{" order[i] "} " rules[order[i]]
	head("xt_tarpit_packets_total", "counter", "Packets that rules with the target TARPIT have taken.")
	for (i = 1; i <= count; i++) printf "xt_tarpit_packets_total{%s} %.0f\n", order[i], packets[order[i]]
	head("xt_tarpit_bytes_total", "counter", "Bytes that rules with the target TARPIT have taken.")
	for (i = 1; i <= count; i++) printf "xt_tarpit_bytes_total{%s} %.0f\n", order[i], octets[order[i]]
}

function head(name, kind, help) {
	print "# HELP " name " " help
	print "# TYPE " name " " kind
}

function labels() {
	return "family=" label($2) ",backend=" label($3) ",table=" label($4) ",chain=" label($5)
}

# A label's value: there are three escapes, and it must be UTF-8.
function label(text) {
	text = quoted(printable(decoded(text)))
	gsub(/\\ufffd/, "?", text)
	return text
}
