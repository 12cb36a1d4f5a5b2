#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A host without a compiler that follows the newest kernel.  /repo-1 has modules for the kernel OLD,
# /repo-2 also for NEW; SUITE is the suite.  The kernels themselves are stand-ins of the test's.
set -eu
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

fail() {
	echo "FAILED: $*"
	cat /tmp/log || true
	exit 1
}

apt() {
	echo "# apt-get $*"
	apt-get -q -y -o Dpkg::Use-Pty=0 "$@" > /tmp/log 2>&1 || fail "apt-get $*"
}

installed() {
	dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
install -D -m 644 /repo-1/tarpit-builder.asc /etc/apt/keyrings/tarpit-builder.asc
cp "/repo-1/$SUITE.sources" /etc/apt/sources.list.d/
ln -s /repo-1 /srv/tarpit
apt update
apt install "linux-image-amd64" xt-tarpit-modules-amd64
installed "xt-tarpit-modules-$OLD" || fail "no modules for $OLD"
! installed xt-tarpit-dkms || fail "a compiler would come along"
echo "ok: installed"

ln -sfn /repo-2 /srv/tarpit
apt update
apt full-upgrade
installed "xt-tarpit-modules-$NEW" || fail "no modules for $NEW"
[ -e "/usr/lib/xt-tarpit/$NEW/xt_TARPIT.ko" ] || fail "no module for $NEW"
installed "linux-image-$NEW" || fail "no kernel $NEW"
echo "ok: upgraded"

# Both kernels stay, as apt keeps the last two, and so do their modules.
apt autoremove
for abi in "$OLD" "$NEW"; do
	installed "linux-image-$abi" || fail "the kernel $abi was removed"
	installed "xt-tarpit-modules-$abi" || fail "the modules of $abi were removed"
done
echo "ok: modules stay as long as their kernels"

apt purge xt-tarpit-modules-amd64 "xt-tarpit-modules-$OLD" "xt-tarpit-modules-$NEW" xt-tarpit-common
apt install -f
[ ! -e /usr/lib/xt-tarpit ] || fail "something is left"
echo "ok: removed"
