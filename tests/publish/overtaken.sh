#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The real apt, while the repository is updated.  /state-1 to /state-3 are the whole repository in
# the states 1 to 3 and /expired is one whose Valid-Until is over; SUITE is the suite.
#
# A client that knows nothing, and one that knows the state before, is overtaken by the update
# before its first request, its second, …, and after its last.
set -eu
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

fail() {
	echo "FAILED: $*"
	cat /tmp/log /tmp/requests || true
	exit 1
}

# serve N BEFORE [AFTER]: AFTER from the Nth request on.
serve() {
	: > /tmp/requests
	perl /proof/server.pl 8000 /tmp/requests "$@" &
	server=$!
	until grep -q ':1F40 0*:0000 0A' /proc/net/tcp; do sleep 0.05; done
}

stop() {
	kill "$server"
	wait "$server" 2>/dev/null || true
}

update() {
	apt-get -q -o APT::Update::Error-Mode=any update > /tmp/log 2>&1
}

# As apt update failed before it knew --error-mode (bullseye): any complaint counts.
clean_update() {
	update || fail "$1: apt-get update fails"
	! grep -E '^(W|E|Err)' /tmp/log || fail "$1: apt complains"
	! grep -v '^200 ' /tmp/requests || fail "$1: something was not there"
}

# A root that was made from a frozen mirror may have this switched off.
echo 'Acquire::Check-Valid-Until "true";' > /etc/apt/apt.conf.d/zz-valid-until
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
install -D -m 644 /state-1/tarpit-builder.asc /etc/apt/keyrings/tarpit-builder.asc
cp "/state-1/$SUITE.sources" /etc/apt/sources.list.d/
grep -q '^URIs: http://127.0.0.1:8000$' "/etc/apt/sources.list.d/$SUITE.sources" || fail "its URL"

mkdir /tmp/known
serve 0 /state-1
clean_update "nothing happens"
stop
cp -r /var/lib/apt/lists/. /tmp/known
whole=$(wc -l < /tmp/requests)
grep -q '/by-hash/SHA256/' /tmp/requests || fail "apt does not ask by hash"
echo "ok: $whole requests"

moment=1
while [ "$moment" -le $((whole + 2)) ]; do
	for knows in nothing state-1; do
		for states in "1 2" "1 3" "2 3"; do
			# shellcheck disable=SC2086  # two words
			set -- $states
			rm -rf /var/lib/apt/lists/*
			[ "$knows" = nothing ] || cp -r /tmp/known/. /var/lib/apt/lists
			serve "$moment" "/state-$1" "/state-$2"
			clean_update "$knows is known, from state $1 to $2 before request $moment"
			# What it then knows can be had: of the state that it met.
			rm -f /var/cache/apt/archives/*.deb
			apt-get -q -y -d install xt-tarpit-dkms > /tmp/log 2>&1 ||
				fail "download, from state $1 to $2 before request $moment"
			! grep -v '^200 ' /tmp/requests || fail "a package was not there"
			stop
		done
	done
	moment=$((moment + 1))
done
echo "ok: overtaken at $((moment - 1)) moments"

# -- replays -------------------------------------------------------------------------------------
rm -rf /var/lib/apt/lists/*
serve 0 /expired
! update || fail "apt takes a state that has expired"
grep -qi 'expired' /tmp/log || fail "apt refuses it for another reason"
stop
echo "ok: an expired state is refused"

serve 0 /state-3
clean_update "the new state"
stop
newest=$(apt-cache show xt-tarpit-dkms | sed -n 's/^Version: //p' | head -n 1)
serve 0 /expired
update || true
[ "$(apt-cache show xt-tarpit-dkms | sed -n 's/^Version: //p' | head -n 1)" = "$newest" ] ||
	fail "apt goes back to an expired state"
stop
echo "ok: nobody goes back"
