#!/bin/sh
# A life of the packages on one host, from a clean root: the packages are below /packages, and of
# a later version below /upgrade.  The first check that fails ends it, with status 1.
#
#	lifecycle.sh ABI ours-first|theirs-first|unfit-kernel
set -eu

ABI=$1
ORDER=$2
PLUGIN=$(echo /usr/lib/*-linux-gnu)/xtables/libxt_TARPIT.so

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# shellcheck source=/dev/null
. /test/apt.sh

fail() {
	echo "FAILED: $*"
	dkms status || true
	find /lib/modules/ -iname '*tarpit*'
	exit 1
}

# The one file that modprobe would load for each name that the kernel or a person asks for.
loaded() {
	for name in xt_TARPIT ipt_TARPIT ip6t_TARPIT; do
		modprobe -S "${ABI}" --show-depends "${name}" | sed -n 's/^insmod \([^ ]*TARPIT[^ ]*\).*/\1/p'
	done | sort -u
}

loads() {
	file=$(loaded) || fail "modprobe finds no module"
	# shellcheck disable=SC2254  # a pattern on purpose
	case "${file}" in
	$1) echo "ok: modprobe loads ${file}" ;;
	*) fail "modprobe loads ${file:-nothing}, not $1" ;;
	esac
}

# iptables loads the extension that package $1 ships.  To translate a rule it must, and needs
# neither privileges nor a kernel that has the target.
plugs() {
	[ -e "${PLUGIN}" ] || fail "there is no ${PLUGIN}"
	[ -z "$(dpkg --verify "$1")" ] || fail "files of $1 are not its own: $(dpkg --verify "$1")"
	shipped=$(dpkg-query --control-show "$1" md5sums | sed -n 's/ .*libxt_TARPIT.so$//p')
	[ "${shipped}" = "$(md5sum <"${PLUGIN}" | cut -d ' ' -f 1)" ] || fail "${PLUGIN} is not of $1"
	for translate in iptables-translate ip6tables-translate; do
		"${translate}" -A INPUT -p tcp -j TARPIT --honeypot >/dev/null ||
			fail "${translate} cannot use TARPIT"
	done
	echo "ok: iptables loads the extension of $1"
}

ours() {
	settled
	loads "$1"
	plugs xt-tarpit-common
}

theirs() {
	settled
	loads '*/updates/dkms/xt_TARPIT.ko*'
	plugs xtables-addons-common
	addons
}

# A user of the other addons keeps them.
addons() {
	for name in xt_ACCOUNT xt_geoip xt_quota2; do
		modinfo -k "${ABI}" -F filename "${name}" >/dev/null || fail "addon ${name} is gone"
	done
	[ -e "$(dirname "${PLUGIN}")/libxt_geoip.so" ] || fail "the extension geoip is gone"
}

gone() {
	settled
	left=$(find / -xdev -iname '*tarpit*' ! -path '/proc/*' ! -path '/packages*' ! -path '/upgrade*')
	[ -z "${left}" ] || fail "left over: ${left}"
	! dpkg-divert --list | grep -i tarpit || fail "a diversion is left over"
	! grep -ri tarpit /lib/modules/*/modules.* || fail "an index still names the module"
	echo "ok: nothing is left over"
}

apt-get update -qq

DKMS="*/updates/dkms/xt-TARPIT.ko*"
PREBUILT="*/updates/xt-tarpit/xt_TARPIT.ko"

case "${ORDER}" in
ours-first)
	run_apt install iptables "linux-headers-${ABI}" /packages/*.deb
	ours "${PREBUILT}"
	dkms status | grep -q "xt-tarpit.*${ABI}.*: installed" || fail "DKMS did not build the module"
	run_apt purge "xt-tarpit-modules-${ABI}"
	ours "${DKMS}"
	run_apt install xtables-addons-dkms
	ours "${DKMS}"
	addons
	if [ -d /upgrade ]; then
		run_apt install /upgrade/*.deb
		ours "${PREBUILT}"
		dkms status | grep -q "xt-tarpit.*${ABI}.*: installed" || fail "DKMS did not build the module"
	fi
	run_apt remove 'xt-tarpit-*'
	theirs
	run_apt purge 'xt-tarpit-*' 'xtables-addons-*'
	gone
	;;
theirs-first)
	run_apt install iptables kmod "linux-headers-${ABI}"
	# The kernel's own package would have: without an index, DKMS of forky makes none.
	depmod "${ABI}"
	run_apt install xtables-addons-dkms
	theirs
	run_apt install /packages/xt-tarpit-dkms_*.deb /packages/xt-tarpit-common_*.deb
	ours "${DKMS}"
	addons
	# Installing headers anew makes DKMS build for them, as after a kernel upgrade.
	run_apt purge "linux-headers-${ABI}"
	settled
	run_apt install "linux-headers-${ABI}"
	ours "${DKMS}"
	addons
	run_apt purge 'xtables-addons-*'
	ours "${DKMS}"
	run_apt purge 'xt-tarpit-*'
	gone
	;;
unfit-kernel)
	run_apt install iptables "linux-headers-${ABI}"
	sed -i 's/^CONFIG_NETFILTER_XTABLES=.*/# CONFIG_NETFILTER_XTABLES is not set/' \
		"/usr/src/linux-headers-${ABI}/.config"
	run_apt install /packages/xt-tarpit-dkms_*.deb /packages/xt-tarpit-common_*.deb
	settled
	! dkms status | grep -q "xt-tarpit.*${ABI}" || fail "DKMS did not skip the kernel"
	plugs xt-tarpit-common
	run_apt purge 'xt-tarpit-*'
	gone
	;;
*)
	fail "no such order: ${ORDER}"
	;;
esac
echo "done"
