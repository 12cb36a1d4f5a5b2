# SPDX-License-Identifier: GPL-2.0-only
# From the lines of "rules" and "counters" to Prometheus' text format.  Give loaded; text.awk comes first.

BEGIN { FS = "\t" }

$1 == "rule" {
	key = labels() ",mode=" label($6)
	if (!(key in rules)) order[++count] = key
	rules[key]++
	packets[key] += $7
	octets[key] += $8
}

$1 == "chain" { armed[++chains] = labels() "} " ($6 == "armed" ? 1 : 0) }

$1 == "counter" { add("xt_tarpit", "", $2, $3) }

$1 == "device" {
	device[++devices] = "device=" label($2)
	mode[devices] = label($4)
	up[devices] = $3 == "up"
}

$1 == "outcome" { add("xt_tarpit_device", "device=" label($2) ",", $3, $4) }

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
	head("xt_tarpit_answers_total", "counter", "Answers that the target gave, by kind.")
	printf "%s", samples["xt_tarpit_answers_total"]
	head("xt_tarpit_unanswered_total", "counter", "Packets that the target gave no answer, by reason.")
	printf "%s", samples["xt_tarpit_unanswered_total"]
	head("xt_tarpit_device_up", "gauge", "Whether a device of the type tarpit is up (1) or drops what is sent to it (0).")
	for (i = 1; i <= devices; i++) print "xt_tarpit_device_up{" device[i] "} " up[i]
	head("xt_tarpit_device_info", "gauge", "The mode that a device answers in.")
	for (i = 1; i <= devices; i++) print "xt_tarpit_device_info{" device[i] ",mode=" mode[i] "} 1"
	head("xt_tarpit_device_answers_total", "counter", "Answers that a device gave, by kind.")
	printf "%s", samples["xt_tarpit_device_answers_total"]
	head("xt_tarpit_device_unanswered_total", "counter", "Packets that a device gave no answer, by reason.")
	printf "%s", samples["xt_tarpit_device_unanswered_total"]
}

# A packet got an answer of a kind, or none for a reason.
function add(prefix, where, outcome, number,    name, is_answer) {
	is_answer = outcome ~ /^(synack|hold|ack|rst|neighbour)$/
	name = prefix (is_answer ? "_answers_total" : "_unanswered_total")
	samples[name] = samples[name] name "{" where (is_answer ? "kind=" : "reason=") label(outcome) "} " number "\n"
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
