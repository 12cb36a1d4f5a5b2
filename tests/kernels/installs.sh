#!/bin/sh
# On a fresh host: the headers of a distribution's kernel and the packages below /packages, whose
# module DKMS builds, and iptables takes the target.
#
#	installs.sh ABI HEADERS-METAPACKAGE SOURCES-LINE
set -eu

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
abi=$1 headers=$2 source=$3

fail() {
	echo "FAILED: $*"
	cat /var/lib/dkms/xt-tarpit/*/build/make.log || true
	exit 1
}

install -m 644 /test/archive.gpg /etc/apt/trusted.gpg.d/standin.gpg
echo "${source}" >/etc/apt/sources.list.d/standin.list
apt-get -qq update
# The last two are on every host of Proxmox VE, whose headers do not ask for what their tools need.
apt-get -qq --no-install-recommends -o Dpkg::Use-Pty=0 install "${headers}" iptables gcc kmod \
	/packages/xt-tarpit-common_*.deb /packages/xt-tarpit-dkms_*.deb libelf1 libssl3 ||
	fail "apt-get install"
[ -d "/usr/src/linux-headers-${abi}" ] || fail "no headers of ${abi}"
dkms status | grep -q "xt-tarpit.*${abi}.*installed" || fail "DKMS: $(dkms status)"
module=$(find "/lib/modules/${abi}/updates/dkms/" -name 'xt-TARPIT.ko*')
[ -n "${module}" ] || fail "no module for ${abi}"
modinfo -F vermagic "${module}" | grep -q "^${abi} " || fail "$(modinfo "${module}")"
iptables-translate -A INPUT -p tcp -j TARPIT >/dev/null || fail "iptables cannot use TARPIT"
[ -z "$(dpkg --audit)" ] || fail "$(dpkg --audit)"
echo "done"
