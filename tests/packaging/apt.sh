#!/bin/sh
# What the scripts beside it have in common.  They source it, and have a function `fail` that ends
# them.

# run_apt ARGUMENT...: without what packages recommend; what it says is in /tmp/apt.log.
run_apt() {
	echo "# apt-get $*"
	apt-get -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/tmp/apt.log 2>&1 || {
		status=$?
		cat /tmp/apt.log
		fail "apt-get $* ended with ${status}"
	}
}

# Nothing is half configured: every package is installed, or removed with its configuration left.
settled() {
	# shellcheck disable=SC2016  # the ${…} are dpkg-query's
	unsettled=$(dpkg --audit; dpkg-query --show --showformat='${db:Status-Abbrev} ${Package}\n' |
		grep -v '^[ir][ic] ' || true)
	[ -z "${unsettled}" ] || fail "not settled: ${unsettled}"
}
