# SPDX-License-Identifier: GPL-2.0-only
# What was found, as it was asked for: form is long, short or json.  Ends with the code that
# monitoring understands.

BEGIN {
	FS = "\t"
	code["ok"] = 0
	code["warning"] = 1
	code["critical"] = 2
	code["unknown"] = 3
	weight["ok"] = 0
	weight["unknown"] = 1
	weight["warning"] = 2
	weight["critical"] = 3
	worst = "ok"
}

{ for (i = 2; i <= NF; i++) field[i] = index($i, "\\") ? decoded($i) : $i }

$1 == "fact" {
	if (!(field[2] in groups)) {
		groups[field[2]] = 1
		group[++group_count] = field[2]
	}
	if (!((field[2], field[3]) in value)) keys[field[2]] = keys[field[2]] SUBSEP field[3]
	value[field[2], field[3]] = field[5]
	type[field[2], field[3]] = field[4]
}

$1 == "kernel" {
	k = ++kernel_count
	for (i = 2; i <= 12; i++) kernel[k, i] = field[i]
}

$1 == "rule" {
	r = ++rule_count
	for (i = 2; i <= 9; i++) rule[r, i] = field[i]
	packets += field[7]
	octets += field[8]
}

$1 == "chain" {
	c = ++chain_count
	for (i = 2; i <= 7; i++) chain[c, i] = field[i]
}

$1 == "device" {
	d = ++device_count
	for (i = 2; i <= 7; i++) device[d, i] = field[i]
}

$1 == "outcome" {
	o = ++outcome_count
	for (i = 2; i <= 4; i++) outcome[o, i] = field[i]
	if (field[4] > 0) outcomes[field[2]] = outcomes[field[2]] ", " field[3] " " field[4]
}

$1 == "saved" {
	s = ++saved_count
	for (i = 2; i <= 4; i++) saved[s, i] = field[i]
}

$1 == "finding" {
	f = ++finding_count
	for (i = 2; i <= 6; i++) finding[f, i] = field[i]
	if (field[2] == "ok") next
	bad++
	if (weight[field[2]] > weight[worst]) worst = field[2]
}

END {
	for (i = 1; i <= finding_count; i++)
		if (finding[i, 2] == worst) break
	summary = worst == "ok" ? healthy() : finding[i, 5] (bad > 1 ? " (and " (bad - 1) " more)" : "")
	if (form == "json") as_json()
	else if (form == "short") in_short()
	else in_full()
	exit code[worst]
}

function healthy(    text) {
	if (value["module", "loaded"] == "yes")
		return "module loaded, " counted(rule_count, "rule") \
			(device_count ? ", " counted(device_count, "device") : "")
	for (k = 1; k <= kernel_count; k++) {
		if (kernel[k, 6] == "none") continue
		if (kernel[k, 3] == "yes" || kernel[k, 4] == "yes") return "module installed for " kernel[k, 2]
		text = "module installed for " kernel[k, 2]
	}
	return text ? text : "nothing of it here"
}

function counted(number, what) {
	return (number + 0) " " what (number == 1 ? "" : "s")
}

# -- one to three lines -------------------------------------------------------------------------

function in_short(    shown, level, i) {
	for (level = 3; level > 1; level--)
		for (i = 1; i <= finding_count; i++)
			if (weight[finding[i, 2]] == level) {
				alarms++
				line[alarms] = finding[i, 5] (finding[i, 6] == "" ? "" : " -> " finding[i, 6])
			}
	for (i = 1; i <= alarms; i++) {
		if (i == 3 && alarms > 3) {
			print "xt-tarpit: " (alarms - 2) " more: xt-tarpit-status"
			break
		}
		print "xt-tarpit: " printable(line[i])
	}
}

# -- all of it ----------------------------------------------------------------------------------

function in_full() {
	# A bar would start the numbers that monitoring plots.
	gsub(/\|/, "/", summary)
	printf "TARPIT %s - %s | rules=%d packets=%.0fc bytes=%.0fc\n", toupper(worst), printable(summary),
		rule_count, packets, octets
	for (k = 1; k <= kernel_count; k++) kernel_block()
	module_block()
	secure_boot_block()
	rules_block()
	devices_block()
	service_block()
	saved_block()
	for (f = 1; f <= finding_count; f++)
		if (!(f in told)) {
			print ""
			print printable(finding[f, 4])
			remarks(finding[f, 4])
		}
}

function say(text) {
	print "  " printable(text)
}

# The findings of a block, each with its remedy.
function remarks(block,    f) {
	for (f = 1; f <= finding_count; f++) {
		if (finding[f, 4] != block || (f in told)) continue
		told[f] = 1
		say((finding[f, 2] == "ok" ? "note" : toupper(finding[f, 2])) ": " finding[f, 5])
		if (finding[f, 6] != "") say("  " (finding[f, 2] == "ok" ? "see" : "do") ": " finding[f, 6])
	}
}

function kernel_block(    marks) {
	marks = kernel[k, 3] == "yes" ? ", running" : ""
	if (kernel[k, 4] == "yes") marks = marks ", newest"
	print ""
	print printable("kernel " kernel[k, 2] (marks ? " (" substr(marks, 3) ")" : ""))
	if (kernel[k, 6] == "none") say("module   none")
	else if (kernel[k, 6] == "unknown") say("module   unknown")
	else say("module   " kernel[k, 5] (kernel[k, 7] ? ", version " kernel[k, 7] : "") \
		(kernel[k, 9] ? ", signed by " kernel[k, 9] : ", not signed"))
	if (kernel[k, 6] != "none" && kernel[k, 12] != "unknown")
		say("device   " (kernel[k, 12] == "yes" ? "installed" : "not installed"))
	say("headers  " (kernel[k, 10] == "yes" ? "installed" : "not installed"))
	if (kernel[k, 11] != "absent") say("DKMS     " (kernel[k, 11] == "none" ? "not built" : kernel[k, 11]))
	remarks("kernel " kernel[k, 2])
}

function module_block(    i, n, part, text) {
	if (!(("module", "loaded") in value)) return
	print ""
	print "module"
	if (value["module", "loaded"] == "yes")
		say("loaded, version " (value["module", "version"] ? value["module", "version"] : "unknown") \
			", used by " counted(value["module", "uses"], "rule"))
	else say("not loaded")
	n = split(substr(keys["counters"], 2), part, SUBSEP)
	for (i = 1; i <= n; i++)
		if (value["counters", part[i]] > 0) text = text ", " part[i] " " value["counters", part[i]]
	if (n) say("packets  " (text ? substr(text, 3) : "none yet"))
	remarks("module")
}

function secure_boot_block() {
	if (!(("secure_boot", "state") in value)) return
	print ""
	print "Secure Boot"
	say("state    " value["secure_boot", "state"] ", lockdown " value["secure_boot", "lockdown"])
	say("modules  " (value["secure_boot", "signed_only"] == "yes" ? "only signed ones are loaded" : \
		value["secure_boot", "signed_only"] == "no" ? "need no signature" : "unknown"))
	if (("secure_boot", "enrolled") in value)
		say("signer   " (value["secure_boot", "enrolled"] == "yes" ? "enrolled" : \
			value["secure_boot", "enrolled"] == "no" ? "not enrolled" : \
			value["secure_boot", "enrolled"] == "revoked" ? "revoked" : "unknown"))
	remarks("Secure Boot")
}

function rules_block() {
	if (!(("module", "loaded") in value)) return
	print ""
	print "rules"
	if (!rule_count) say("none is seen")
	for (r = 1; r <= rule_count; r++) {
		say(rule[r, 2] " " rule[r, 3] " " rule[r, 4] ": " rule[r, 9])
		say("  " rule[r, 7] " packets, " rule[r, 8] " bytes")
	}
	remarks("rules")
}

function devices_block() {
	for (d = 1; d <= device_count; d++) {
		if (d == 1) {
			print ""
			print "devices"
		}
		say(device[d, 2] " is " device[d, 3] ", mode " device[d, 4])
		say("  " device[d, 5] " packets sent to it, " device[d, 6] " answered, " device[d, 7] " dropped")
		if (device[d, 2] in outcomes) say("  " substr(outcomes[device[d, 2]], 3))
	}
	if (device_count) remarks("devices")
}

function service_block() {
	if (!chain_count && !(("service", "active") in value)) return
	print ""
	print "service"
	if (value["service", "active"])
		say("xt-tarpit.service is " (value["service", "enabled"] ? value["service", "enabled"] ", " : "") \
			value["service", "active"])
	for (c = 1; c <= chain_count; c++)
		say(chain[c, 2] " " chain[c, 3] " " chain[c, 4] ": " chain[c, 5] " is " \
			(chain[c, 6] == "armed" ? "armed" : chain[c, 6] == "drop" ? "in its DROP form" : "open") ", " \
			counted(chain[c, 7], "jump") " to it")
	remarks("service")
}

function saved_block() {
	if (!saved_count) return
	print ""
	print "saved rules"
	for (s = 1; s <= saved_count; s++) say(saved[s, 3] ": " counted(saved[s, 4], "rule") " with TARPIT")
	remarks("saved rules")
}

# -- JSON ---------------------------------------------------------------------------------------

function as_json(    i, j, n, part) {
	printf "{\"version\": %s, \"status\": %s, \"code\": %d, \"summary\": %s", quoted(version),
		quoted(worst), code[worst], quoted(summary)
	for (i = 1; i <= group_count; i++) {
		printf ",\n %s: {", quoted(group[i])
		n = split(substr(keys[group[i]], 2), part, SUBSEP)
		for (j = 1; j <= n; j++)
			printf "%s%s: %s", (j > 1 ? ", " : ""), quoted(part[j]),
				typed(type[group[i], part[j]], value[group[i], part[j]])
		printf "}"
	}
	list("kernels", kernel_count, "version text,running flag,newest flag,module text,origin text," \
		"module_version text,srcversion text,signer text,headers flag,dkms text,device flag", kernel)
	list("rules", rule_count, "family text,backend text,table text,chain text,mode text," \
		"packets number,bytes number,rule text", rule)
	list("devices", device_count, "name text,state text,mode text,sent number,answered number," \
		"dropped number", device)
	list("outcomes", outcome_count, "device text,outcome text,packets number", outcome)
	list("chains", chain_count, "family text,backend text,table text,chain text,state text," \
		"jumps number", chain)
	list("saved", saved_count, "kind text,file text,rules number", saved)
	list("findings", finding_count, "severity text,code text,subject text,text text,remedy text", finding)
	print "}"
}

function typed(kind, text) {
	if (kind == "number") return text ~ /^[0-9]+$/ ? text : "null"
	if (kind == "flag") return text == "yes" ? "true" : text == "no" ? "false" : "null"
	return text == "" ? "null" : quoted(text)
}

function list(name, count, columns, table,    i, j, n, column, pair) {
	printf ",\n %s: [", quoted(name)
	n = split(columns, column, ",")
	for (i = 1; i <= count; i++) {
		printf "%s\n  {", (i > 1 ? "," : "")
		for (j = 1; j <= n; j++) {
			split(column[j], pair, " ")
			printf "%s%s: %s", (j > 1 ? ", " : ""), quoted(pair[1]), typed(pair[2], table[i, j + 1])
		}
		printf "}"
	}
	printf "]"
}
