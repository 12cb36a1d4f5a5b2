#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# How often each line of the modules was executed, by the gcov of their compiler.  Results: /out/GUEST/MODULE.json
#   /counters            MODULE.gcno of the build, and GUEST/MODULE.gcda of each guest
set -eu

gcov=gcov-$(sh /layer/cc -dumpversion)
command -v "$gcov" > /dev/null || gcov=gcov
for counters in /counters/*/*.gcda; do
	[ -e "$counters" ] || break
	guest=$(basename "$(dirname "$counters")")
	module=$(basename "$counters" .gcda)
	[ -e "/counters/$module.gcno" ] || continue
	mkdir -p "/build/$guest" "/out/$guest"
	cp "/counters/$module.gcno" "$counters" "/build/$guest"
	(cd "/build/$guest" && "$gcov" --json-format --branch-probabilities --stdout "$module.gcda") > "/out/$guest/$module.json"
	rm -r "/build/$guest"
done
"$gcov" --version | head -n 1
