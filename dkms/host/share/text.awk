# SPDX-License-Identifier: GPL-2.0-only
# Text in fields, in JSON and on terminals.  Bytes are bytes here: LC_ALL=C.

BEGIN { for (byte = 1; byte < 256; byte++) ord[sprintf("%c", byte)] = byte }

# A field as it was before encode() of facts.sh.
function decoded(text,    at, left, out) {
	left = text
	while (at = index(left, "\\")) {
		out = out substr(left, 1, at - 1)
		left = substr(left, at + 1)
		if (left ~ /^t/) out = out "\t"
		else if (left ~ /^n/) out = out "\n"
		else out = out "\\"
		left = substr(left, 2)
	}
	return out left
}

function encoded(text) {
	gsub(/\\/, "&&", text)
	gsub(/\t/, "\\t", text)
	return text
}

# A string of JSON; what is not UTF-8 becomes U+FFFD.
function quoted(text,    at, byte, c, out, wide) {
	if (text ~ /^[ !#-\[\]-~]*$/) return "\"" text "\""
	for (at = 1; at <= length(text); at++) {
		c = substr(text, at, 1)
		byte = ord[c]
		if (c == "\"" || c == "\\") out = out "\\" c
		else if (byte < 32) out = out sprintf("\\u%04x", byte)
		else if (byte < 128) out = out c
		else if (wide = sequence(text, at, byte)) {
			out = out substr(text, at, wide)
			at += wide - 1
		} else out = out "\\ufffd"
	}
	return "\"" out "\""
}

# How long the UTF-8 sequence is that starts at a place, 0 if there is none.
function sequence(text, at, first,    low, high, i, next_byte, wide) {
	if (first < 194 || first > 244) return 0
	wide = first < 224 ? 2 : first < 240 ? 3 : 4
	low = first == 224 ? 160 : first == 240 ? 144 : 128
	high = first == 237 ? 159 : first == 244 ? 143 : 191
	for (i = 1; i < wide; i++) {
		next_byte = ord[substr(text, at + i, 1)] + 0
		if (next_byte < low || next_byte > high) return 0
		low = 128
		high = 191
	}
	return wide
}

# Fit for a terminal: nothing in a name may move its cursor.
function printable(text) {
	gsub(/[\001-\037\177]/, "?", text)
	return text
}
