#!/bin/sh
# What xt-tarpit-status says of hosts in all kinds of trouble, made of real packages in a clean root;
# the packages under test are below /packages.  Each look leaves NAME.json, NAME.short, NAME.long
# and their exit codes in /out, which tests/host_status/test_hosts.py judges.
#
#	hosts.sh
#
# A container has neither firmware nor a kernel of its own, so what a look sees of /proc and /sys is
# made up: in /host there are links to the files of this container, and nothing else is fake.
set -eu

HOST=/host
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# No initramfs: nothing boots here.
export INITRD=No

run_apt() {
	name=$1
	shift
	echo "# apt-get $*"
	apt-get -q --yes --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >"/out/$name.apt" 2>&1 || {
		status=$?
		cat "/out/$name.apt"
		echo "FAILED: apt-get $* ended with ${status}"
		exit 1
	}
}

# Takes over what this container has now; /proc and /sys are empty.
snapshot() {
	rm -rf "$HOST"
	mkdir -p "$HOST/var/lib" "$HOST/proc" "$HOST/sys" "$HOST/run" "$HOST/dev" "$HOST/tmp"
	# Not links: some files of /etc are the engine's.
	cp -a /etc "$HOST/etc"
	for folder in /bin /sbin /lib /lib64 /usr /boot /var/lib/dpkg /var/lib/dkms; do
		[ ! -e "$folder" ] || cp -al "$folder" "$HOST$folder"
	done
	mknod -m 666 "$HOST/dev/null" c 1 3
}

# running KERNEL
running() {
	mkdir -p "$HOST/proc/sys/kernel"
	echo "$1" >"$HOST/proc/sys/kernel/osrelease"
}

# look NAME [OPTION...]
look() {
	name=$1
	shift
	echo "# look $name"
	for form in json short long; do
		option=--$form
		[ "$form" != long ] || option=
		status=0
		# shellcheck disable=SC2086  # no option is none
		chroot ${userspec:+"--userspec=$userspec"} "$HOST" /usr/sbin/xt-tarpit-status $option "$@" \
			>"/out/$name.$form" 2>"/out/$name.$form.errors" </dev/null || status=$?
		echo "$status" >"/out/$name.$form.status"
	done
}

# firmware on|off: UEFI, with Secure Boot or without it.
EFIVARS=$HOST/sys/firmware/efi/efivars
variable() {
	mkdir -p "$EFIVARS"
	{
		printf '\006\000\000\000'
		cat
	} >"$EFIVARS/$1"
}
firmware() {
	rm -rf "$HOST/sys/firmware" "$HOST/sys/kernel"
	mkdir -p "$HOST/sys/kernel/security" "$HOST/sys/module/module/parameters"
	if [ "$1" = on ]; then
		printf '\001' | variable SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
		echo 'none [integrity] confidentiality' >"$HOST/sys/kernel/security/lockdown"
	else
		printf '\000' | variable SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
		echo '[none] integrity confidentiality' >"$HOST/sys/kernel/security/lockdown"
	fi
	echo N >"$HOST/sys/module/module/parameters/sig_enforce"
	openssl req -quiet -x509 -newkey rsa:2048 -nodes -subj "/CN=Vendor of the board" -days 9 \
		-keyout /tmp/vendor.key -outform DER -out /tmp/vendor.der 2>/dev/null ||
		openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=Vendor of the board" -days 9 \
			-keyout /tmp/vendor.key -outform DER -out /tmp/vendor.der 2>/dev/null
	signature_list /tmp/vendor.der | variable db-d719b2cb-3d3a-4596-a3bc-dad00e67656f
	# As a kernel lists the keys that it was built with.
	mkdir -p "$HOST/proc"
	echo '1a2b3c4d I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot CA: 6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1: X509.rsa bb419ea1 []' >"$HOST/proc/keys"
}
little_endian() {
	# shellcheck disable=SC2059  # the numbers are the format
	printf "\\$(printf %03o $(($1 & 255)))\\$(printf %03o $(($1 >> 8 & 255)))\\000\\000"
}
# An EFI_SIGNATURE_LIST with one certificate: type, sizes of list, header and entry, owner.
signature_list() {
	size=$(wc -c <"$1")
	printf '\241\131\300\245\344\224\247\112\207\265\253\025\134\053\360\162'
	little_endian $((size + 44))
	little_endian 0
	little_endian $((size + 16))
	printf '\120\253\135\140\106\340\000\103\253\266\075\330\020\335\213\043'
	cat "$1"
}

# loaded SRCVERSION USES
loaded() {
	mkdir -p "$HOST/sys/module/xt_TARPIT"
	echo "$1" >"$HOST/sys/module/xt_TARPIT/srcversion"
	modinfo -k "$NEW" -F version xt_TARPIT >"$HOST/sys/module/xt_TARPIT/version"
	echo "$2" >"$HOST/sys/module/xt_TARPIT/refcnt"
}

# remedy NAME: what a look told to do, in the first line of its short form.
remedy() {
	sed -n '1s/.* -> //p' "/out/$1.short"
}

apt-get update -qq
META=linux-image-cloud-amd64
NEW=$(apt-cache show --no-all-versions "$META" | sed -n 's/^Depends: linux-image-\([^ ,]*\).*/\1/p')
OLD=$(apt-cache show "$META" | sed -n 's/^Depends: linux-image-\([^ ,]*\).*/\1/p' | grep -v -x -F "$NEW" | sort -V | tail -n 1)
if [ -z "$OLD" ]; then
	OLD=$(apt-cache pkgnames linux-image- | sed -n 's/^linux-image-\([0-9].*-cloud-amd64\)$/\1/p' |
		sort -V | grep -B 1 -x -F "$NEW" | head -n 1)
fi
printf '%s\n%s\n' "$OLD" "$NEW" >/out/kernels
MODULE=$HOST/lib/modules

echo "## only the extension"
run_apt extension install /packages/xt-tarpit-common_*.deb
snapshot
running "$OLD"
look without-kmod

echo "## two kernels, headers of the older one only, no metapackage of headers"
run_apt two-kernels install openssl "linux-image-$OLD" "$META" "linux-headers-$OLD" \
	/packages/xt-tarpit-dkms_*.deb
xt-tarpit-status --json >/out/container.json || echo $? >/out/container.json.status
snapshot
running "$OLD"
look older-runs
look only-old --kernel "$OLD"
look only-new --kernel "$NEW"
look only-none --kernel 1.2.3-none
running "$NEW"
look newer-runs
mkdir -p "$HOST/etc/iptables" "$HOST/etc/network/if-up.d" "$HOST/etc/ufw"
cat >"$HOST/etc/iptables/rules.v4" <<-EOT
	*filter
	:INPUT ACCEPT [0:0]
	-A INPUT -p tcp -m comment --comment "not this: -j TARPIT" -j ACCEPT
	-A INPUT -p tcp --dport 23 -j TARPIT --tarpit
	-A INPUT -p tcp --dport 24 -j TARPIT --reset
	COMMIT
EOT
running "$OLD"
look saved-set
chmod 600 "$HOST/etc/iptables/rules.v4"
userspec=65534:65534 look not-root
# Names that break whatever does not escape them: quotes, a tab, a line's end, no UTF-8, a bell.
printf '#!/bin/sh\niptables -A INPUT -p tcp -j TARPIT\n' >"$HOST/etc/network/if-up.d/$(printf 'a"b\\c\td\ne\377\303\251\007|')"
mkdir -p "$MODULE/9.9.9-\"odd\\name$(printf '\351\303\251')"
: >"$MODULE/9.9.9-\"odd\\name$(printf '\351\303\251')/modules.builtin"
look names

echo "## what it said to do is done"
snapshot
running "$OLD"
look before-remedy
# shellcheck disable=SC2046  # a list of packages
run_apt remedy $(remedy before-remedy | sed 's/^apt //')
snapshot
running "$OLD"
look remedied
running "$NEW"
look remedied-rebooted

echo "## Secure Boot"
firmware off
look secure-boot-off
firmware on
look not-enrolled
: | variable MokNew-605dab50-e046-4300-abb6-3dd810dd8b23
look pending
rm "$EFIVARS"/MokNew-*
signature_list /var/lib/dkms/mok.pub | variable MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23
look enrolled
signature_list /var/lib/dkms/mok.pub | variable dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f
look revoked
cp "$HOST/boot/config-$NEW" /tmp/config
sed -i 's/^# \(CONFIG_SYSTEM_REVOCATION_LIST\) is not set/\1=y/' "$HOST/boot/config-$NEW"
look revoked-and-heeded
rm "$HOST/boot/config-$NEW"
look revoked-and-nobody-knows
cp /tmp/config "$HOST/boot/config-$NEW"
rm "$EFIVARS"/dbx-*
rm "$EFIVARS"/MokListRT-* "$EFIVARS"/db-*
look cannot-tell
firmware on
echo '2a2b3c4d I------     1 perm 1f030000     0     0 asymmetri DKMS module signing key: 0102030405060708090a0b0c0d0e0f1011121314: X509.rsa 11121314 []' >>"$HOST/proc/keys"
look key-of-the-same-name
file=$(modinfo -k "$NEW" -F filename xt_TARPIT)
cp --remove-destination "$file" "$HOST$file"
case $file in
*.xz) xz -d "$HOST$file" && bare=${file%.xz} ;;
*) bare=$file ;;
esac
objcopy --strip-debug "$HOST$bare" /tmp/unsigned.ko
rm "$HOST$bare"
cp /tmp/unsigned.ko "$HOST$bare"
chroot "$HOST" depmod "$NEW"
look not-signed

echo "## the loaded module"
snapshot
running "$NEW"
loaded "$(modinfo -k "$NEW" -F srcversion xt_TARPIT)" 2
look loaded
userspec=65534:65534 look loaded-not-root
loaded 0123456789ABCDEF0123456 2
look reload-due
printf 'filter\n' >"$HOST/proc/net_names"
mkdir -p "$HOST/proc/net"
mv "$HOST/proc/net_names" "$HOST/proc/net/ip_tables_names"
look rules-unseen

echo "## which file wins"
snapshot
running "$NEW"
mv "$MODULE/$NEW/updates" "$HOST/tmp/updates"
chroot "$HOST" depmod "$NEW"
mv "$HOST/tmp/updates" "$MODULE/$NEW/updates"
look not-indexed
chroot "$HOST" sh -c "$(remedy not-indexed)"
look indexed
# A module of the same name and of another package, where xtables-addons-dkms puts its own.
other=$(modinfo -k "$NEW" -F filename xt_tcpudp)
case $other in
*.xz) xz -dc "$other" ;;
*.zst) zstd -qdc "$other" ;;
*) cat "$other" ;;
esac >"$MODULE/$NEW/updates/dkms/xt_TARPIT.ko"
chroot "$HOST" depmod "$NEW"
look both
rm "$HOST"/lib/depmod.d/xt-tarpit.conf
mkdir -p "$HOST/etc/depmod.d"
echo 'override xt_TARPIT * updates/dkms' >"$HOST/etc/depmod.d/other.conf"
chroot "$HOST" depmod "$NEW"
look another-wins
rm "$MODULE/$NEW"/updates/dkms/xt-TARPIT.ko*
chroot "$HOST" depmod "$NEW"
look another-only
extension=$(echo "$HOST"/usr/lib/*-linux-gnu/xtables/libxt_TARPIT.so)
rm "$extension"
look extension-missing
cp "$HOST"/usr/lib/*-linux-gnu/xtables/libxt_tcp.so "$extension" 2>/dev/null || echo other >"$extension"
look another-extension

echo "## DKMS fails"
release=$(dpkg-query --show --showformat='${Version}' xt-tarpit-dkms | sed 's/+.*//')
dkms remove "xt-tarpit/$release" -k "$NEW" >/dev/null
snapshot
running "$NEW"
look not-built
echo '#error broken on purpose' >>"/usr/src/xt-tarpit-$release/xt_TARPIT.c"
if dkms build "xt-tarpit/$release" -k "$NEW" >/dev/null 2>&1; then
	echo "FAILED: DKMS builds what is broken"
	exit 1
fi
snapshot
running "$NEW"
look dkms-failed
look dkms-failed-only --kernel "$NEW"

echo "## prebuilt"
run_apt prebuilt purge xt-tarpit-dkms
run_apt prebuilt install "/packages/xt-tarpit-modules-${NEW}_"*.deb
snapshot
running "$NEW"
look prebuilt

echo "## removed, not purged"
run_apt removed remove 'xt-tarpit-*'
snapshot
[ -e /etc/apt/apt.conf.d/99xt-tarpit ]
run_apt after-removal install hello
echo "done"
