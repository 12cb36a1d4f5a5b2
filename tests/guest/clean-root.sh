#!/bin/sh
# README's commands for apt, to the letter and with apt's own defaults, in a root that has nothing
# but a kernel: the packages are where the user is, in /here, and the commands in /readme.
#
#	clean-root.sh [APT-SETTING]...
set -eu

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

fail() {
	echo "FAILED: $*"
	dkms status || true
	exit 1
}

quietly() {
	"$@" >/tmp/log 2>&1 || {
		status=$?
		cat /tmp/log
		fail "$* ended with ${status}"
	}
}

rm -f /etc/apt/apt.conf.d/99mmdebstrap
printf '%s;\n' 'APT::Get::Assume-Yes "true"' "$@" >/etc/apt/apt.conf.d/90unattended
quietly apt-get update
quietly apt-get install --no-install-recommends linux-image-amd64
ABI=$(cd /lib/modules && echo *)
cp -r /here /root/here
cd /root/here

quietly sh -e /readme/install
modinfo -k "${ABI}" xt_TARPIT >/tmp/modinfo || fail "kernel ${ABI} has no TARPIT"
grep -q '^filename: .*/updates/dkms/' /tmp/modinfo || fail "DKMS did not make it: $(cat /tmp/modinfo)"
echo "ok: DKMS built the module for ${ABI}"
iptables-translate -A INPUT -p tcp -j TARPIT >/dev/null || fail "iptables does not know TARPIT"
xt-tarpit-status --help >/dev/null || fail "there is no xt-tarpit-status"
# The metapackage is what brings the headers of the kernels to come.
dpkg-query -W -f '${db:Status-Abbrev}' linux-headers-amd64 | grep -q '^ii' ||
	fail "the headers do not follow the kernel"
echo "ok: the headers follow the kernel"

quietly sh -e /readme/uninstall
left=$(find / -xdev -iname '*tarpit*' ! -path '/proc/*' ! -path '/here/*' ! -path '/root/here/*')
[ -z "${left}" ] || fail "left over: ${left}"
! dpkg-divert --list | grep -i tarpit || fail "a diversion is left over"
! grep -ri tarpit /lib/modules/*/modules.* || fail "an index still names the module"
! modinfo -k "${ABI}" xt_TARPIT 2>/dev/null || fail "the module is still there"
[ -z "$(dpkg --audit)" ] || fail "not settled: $(dpkg --audit)"
echo "ok: nothing is left over"
