#!/bin/sh
# What goes wrong on a host, from a clean root without systemd and without the module: packages are
# below /packages.  Needs the capabilities to change the firewall and to mount.
#
#	adversity.sh ABI
set -eu

ABI=$1
RULES=/etc/iptables/rules.v4
PLUGINS=/usr/share/netfilter-persistent/plugins.d

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# shellcheck source=/dev/null
. /test/apt.sh

fail() {
	echo "FAILED: $*"
	[ ! -e /tmp/said ] || sed 's/^/said: /' /tmp/said
	exit 1
}

# ends STATUS COMMAND...: it does, and what it says is in /tmp/said.
ends() {
	wanted=$1
	shift
	status=0
	"$@" >/tmp/said 2>&1 || status=$?
	[ "${status}" -eq "${wanted}" ] || fail "$* ended with ${status}, not ${wanted}"
}

# says TEXT: that is all that was said, in one line.
says() {
	[ "$(cat /tmp/said)" = "$1" ] || fail "not said: $1"
	echo "ok: $1"
}

no_module() {
	says "xt-tarpit-chain: kernel $(uname -r) has no module xt_TARPIT; what TARPIT would hold is dropped instead; xt-tarpit-status tells the remedy"
}

# drops PROGRAM: our chain is there, and drops.
drops() {
	[ "$("$1-save" | grep '^-A XT-TARPIT ')" = "-A XT-TARPIT -p tcp -j DROP
-A XT-TARPIT -j DROP" ] || fail "$1 has no chain that drops: $("$1-save")"
}

# The hook has its say and a status of 0 about a kernel that is not there.
hook_behaves() {
	for hook in /etc/kernel/postinst.d/zz-xt-tarpit /etc/kernel/header_postinst.d/zz-xt-tarpit; do
		ends 0 "${hook}" 9.9.9-cloud-amd64 /boot/vmlinuz-9.9.9-cloud-amd64
		says "xt-tarpit: kernel 9.9.9-cloud-amd64 has no TARPIT without its headers; apt install linux-headers-cloud-amd64"
	done
}

chain_behaves() {
	ends 1 xt-tarpit-chain start
	no_module
	drops iptables
	drops ip6tables
}

plugins_behave() {
	for verb in start save flush stop; do
		ends 0 "${PLUGINS}/10-xt-tarpit" "${verb}"
		ends 0 "${PLUGINS}/90-xt-tarpit" "${verb}"
	done
}

apt-get update -qq
[ ! -d /run/systemd/system ] || fail "this is no host without systemd"

echo "## no iptables, no systemd"
run_apt install kmod /packages/xt-tarpit-common_*.deb /packages/xt-tarpit-dkms_*.deb
settled
! command -v iptables-restore >/dev/null || fail "iptables is there"
ends 1 xt-tarpit-chain start
says "xt-tarpit-chain: iptables-restore is not installed; apt install iptables"
ends 0 xt-tarpit-chain refresh
plugins_behave
hook_behaves

echo "## no module"
run_apt install iptables iptables-persistent
plugins_behave
chain_behaves
ends 2 xt-tarpit-chain restart
ends 0 xt-tarpit-chain stop
says ""

echo "## netfilter-persistent, which there loads the chain"
cat >"${RULES}" <<'END'
*filter
:INPUT DROP [0:0]
:XT-TARPIT - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 23 -j XT-TARPIT
-A XT-TARPIT -j DROP
COMMIT
END
ends 0 netfilter-persistent start
grep -q 'has no module xt_TARPIT' /tmp/said || fail "the plugin did not say why"
drops iptables
iptables -C INPUT -p tcp --dport 23 -j XT-TARPIT || fail "the rule set is not loaded"
ends 0 netfilter-persistent save
grep -q '^-A INPUT .*-j XT-TARPIT$' "${RULES}" || fail "the jump is not saved"
! grep -q -e '-j TARPIT' "${RULES}" || fail "TARPIT is saved"

echo "## malformed files"
cp /etc/xt-tarpit/chain.v4 /tmp/chain.v4
sed -i 's/^-A XT-TARPIT -j DROP/-A XT-TARPIT --no-such-option -j DROP/' /etc/xt-tarpit/chain.v4
line=$(grep -n no-such /etc/xt-tarpit/chain.v4 | cut -d : -f 1)
mv /etc/xt-tarpit/chain.v6 /tmp/chain.v6
ends 1 xt-tarpit-chain reload
says "xt-tarpit-chain: /etc/xt-tarpit/chain.v4 line ${line}: unknown option \"--no-such-option\"; the chain is as it was; mend it and run xt-tarpit-chain reload"
drops iptables
ends 1 xt-tarpit-chain check
ends 1 xt-tarpit-chain stop
ends 0 xt-tarpit-chain refresh
ends 0 netfilter-persistent save
! grep -q -e '-j TARPIT' "${RULES}" || fail "TARPIT is saved"
printf '*filter\n-A XT-NOWHERE -j DROP\nCOMMIT\n' >/etc/xt-tarpit/chain.v4
ends 1 xt-tarpit-chain start
grep -q '^xt-tarpit-chain: /etc/xt-tarpit/chain.v4 line [23]: ' /tmp/said || fail "no file and line"
drops iptables
rm /etc/xt-tarpit/chain.v4
ends 1 xt-tarpit-chain start
says "xt-tarpit-chain: there is no /etc/xt-tarpit/chain.v4 and no chain.v6; the defaults are in /usr/share/doc/xt-tarpit-common/examples"

echo "## the way of nftables hosts"
cp /usr/share/doc/xt-tarpit-common/examples/chain.v4-nftables /etc/xt-tarpit/chain.v4
for again in once twice; do
	ends 1 xt-tarpit-chain start
	no_module
	[ "$(iptables-save -t mangle | grep -c '^-A INPUT -j XT-TARPIT-INPUT$')" -eq 1 ] ||
		fail "INPUT does not lead to XT-TARPIT-INPUT, ${again}"
done
iptables-save -t mangle | grep -q '^-A XT-TARPIT-INPUT .*--dports 23,3389 -j DROP$' ||
	fail "what would be held is not dropped"
cp /tmp/chain.v4 /tmp/chain.v6 /etc/xt-tarpit/

echo "## /etc is read-only"
mount --bind /etc /etc
mount -o remount,bind,ro /etc
! touch /etc/written 2>/dev/null || fail "/etc can be written"
chain_behaves
hook_behaves
plugins_behave
umount /etc

echo "## /boot is full"
mount -t tmpfs -o size=4k none /boot
dd if=/dev/zero of=/boot/full bs=4k count=9 2>/dev/null || true
! echo 1 2>/dev/null >/boot/one-more || [ ! -s /boot/one-more ] || fail "/boot is not full"
hook_behaves
chain_behaves
umount /boot

echo "## dpkg is interrupted"
iptables -P INPUT ACCEPT
run_apt install "linux-headers-${ABI}"
run_apt remove xt-tarpit-dkms
dpkg --unpack /packages/xt-tarpit-dkms_*.deb >/dev/null
setsid dpkg --configure xt-tarpit-dkms >/tmp/said 2>&1 &
tries=0
until grep -lqz common.postinst /proc/[0-9]*/cmdline 2>/dev/null; do
	tries=$((tries + 1))
	[ "${tries}" -lt 3000 ] || fail "the package was not configured"
	sleep 0.01
done
kill -9 "-$!"
wait || true
dpkg --audit | grep -q xt-tarpit-dkms || fail "dpkg was not interrupted"
run_dpkg=$(dpkg --configure -a 2>&1) || fail "dpkg --configure -a: ${run_dpkg}"
settled
dkms status | grep -q "xt-tarpit.*${ABI}.*: installed" || fail "DKMS did not build the module"
modinfo -k "${ABI}" xt_TARPIT >/dev/null || fail "kernel ${ABI} has no TARPIT"

echo "## removed: the hooks that stay keep silent, and a purge leaves nothing"
run_apt remove 'xt-tarpit-*'
ends 0 /etc/kernel/postinst.d/zz-xt-tarpit 9.9.9-cloud-amd64
says ""
run_apt purge 'xt-tarpit-*'
settled
left=$(find / -xdev -iname '*tarpit*' ! -path '/proc/*' ! -path '/packages*')
[ -z "${left}" ] || fail "left over: ${left}"
echo "done"
