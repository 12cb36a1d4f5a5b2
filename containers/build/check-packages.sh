#!/bin/sh
# Check the packages below /packages with the suite's own lintian: errors, warnings, infos and
# experimental tags.  Ends with status 1 if there is any.
set -eu

# lintian looks for what .changes names beside it, and wants to write nowhere but in TMPDIR.
export HOME=/tmp
status=0
for changes in /packages/*.changes; do
	# Not --show-overrides: bookworm's lintian takes an overridden tag that it shows for a failure.
	lintian --display-info --display-experimental --info \
		--fail-on error,warning,info "${changes}" || status=1
done
exit "${status}"
