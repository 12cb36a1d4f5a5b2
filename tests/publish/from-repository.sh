#!/bin/sh
# A life with the repository on one host, from a clean root.  /repo-1 and /repo-2 are two of its
# states, with VERSION_1 and VERSION_2; SUITE is the suite, ABI the kernel whose headers are there
# first and OTHER_ABI the one that comes beside it.
# The first check that fails ends it, with status 1.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

fail() {
	echo "FAILED: $*"
	tail -n 25 /tmp/log || true
	dkms status || true
	exit 1
}

apt() {
	echo "# apt-get $*"
	apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/tmp/log 2>&1
}

settled() {
	[ -z "$(dpkg --audit)" ] || fail "half configured: $(dpkg --audit)"
	apt-get check -qq || fail "apt-get check"
}

# built VERSION ABI: DKMS has installed that version for that kernel.
built() {
	dkms status | sed 's,/,\, ,' | grep -F "xt-tarpit, $1, $2, " | grep -q ': installed' ||
		fail "no $1 for $2"
	find "/lib/modules/$2/updates" -iname 'xt?tarpit.ko*' | grep -q . || fail "no module for $2"
	echo "ok: $1 is built for $2"
}

# Paths as if /usr were merged, which it is not everywhere.
merged() {
	sed -E 's,^/(lib|lib64|bin|sbin)(/|$),/usr/\1\2,' | sort -u
}

# Everything that a package could leave behind; what depmod and kernels keep up is no trace.
traces() {
	find / -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /srv -o -path '/repo-*' \
		-o -path /var/log -o -path /var/cache -o -path /var/lib/apt -o -path '*/__pycache__' \) \
		-prune -o -print | grep -v -e '/modules\.[a-z.]*$' -e '^/var/lib/dpkg/' -e '^/boot/' \
		-e '^/vmlinuz' -e '^/initrd' | merged
}

# What the packages that are installed now brought along.
owned() {
	cat /var/lib/dpkg/info/*.list | merged
}

serve() {
	ln -sfn "$1" /srv/repo
}

apt update || fail "apt update of Debian's mirror"
apt install dkms "linux-headers-$ABI" || fail "headers of $ABI"

# -- add it, as its .sources file says -----------------------------------------------------------
serve /repo-1
install -D -m 644 /repo-1/tarpit-builder.asc /etc/apt/keyrings/tarpit-builder.asc
cp "/repo-1/$SUITE.sources" /etc/apt/sources.list.d/tarpit.sources
apt update || fail "apt update with the repository"
! grep -E '^(W|E):' /tmp/log || fail "apt complains about the repository"
traces > /tmp/before

# -- install -------------------------------------------------------------------------------------
apt install xt-tarpit-dkms || fail "install"
settled
built "$VERSION_1" "$ABI"

# -- a kernel comes beside -----------------------------------------------------------------------
apt install "linux-headers-$OTHER_ABI" || fail "headers of $OTHER_ABI"
settled
built "$VERSION_1" "$ABI"
built "$VERSION_1" "$OTHER_ABI"

# -- upgrade: DKMS builds the new version and forgets the old ------------------------------------
serve /repo-2
apt update || fail "apt update to the new state"
apt upgrade || fail "upgrade"
settled
built "$VERSION_2" "$ABI"
built "$VERSION_2" "$OTHER_ABI"
! dkms status | grep -q "$VERSION_1" || fail "DKMS still has $VERSION_1"
[ ! -e "/usr/src/xt-tarpit-$VERSION_1" ] || fail "the source of $VERSION_1 is still there"
echo "ok: upgraded to $VERSION_2"

# -- the source can be had -----------------------------------------------------------------------
cd /tmp
apt-get source -qq --download-only xt-tarpit >/tmp/log 2>&1 || fail "apt-get source"
ls /tmp/xt-tarpit_"$VERSION_2"*.dsc >/dev/null || fail "no source of $VERSION_2"
echo "ok: apt-get source"

# -- remove, then purge --------------------------------------------------------------------------
apt remove xt-tarpit-dkms || fail "remove"
settled
! dkms status | grep -q xt-tarpit || fail "DKMS still knows it"
! find /lib/modules -iname 'xt?tarpit.ko*' | grep . || fail "a module was left"
apt purge xt-tarpit-dkms xt-tarpit-common || fail "purge"
apt autoremove --purge || fail "autoremove"
settled
traces > /tmp/after
owned > /tmp/owned
# The other kernel stays; it is not ours, and what is not a package's is somebody's leaving.
left=$(comm -13 /tmp/before /tmp/after | comm -23 - /tmp/owned)
[ -z "$left" ] || fail "left behind: $(echo "$left" | head -n 20)"
echo "ok: nothing is left"

# -- a repository that somebody has touched ------------------------------------------------------
# (of the newest state: apt keeps what it has when it is offered an older one)
cp -r /repo-2 /srv/forged
serve /srv/forged
apt update || fail "apt update of a copy"
for package in /srv/forged/pool/"$SUITE"/xt-tarpit-dkms_*.deb; do
	printf 'x' | dd of="$package" bs=1 seek=200 conv=notrunc 2>/dev/null
done
! apt install xt-tarpit-dkms || fail "a forged package was installed"
grep -qiE 'hash sum mismatch|size mismatch' /tmp/log || fail "apt refuses for another reason"
sed -i 's/^Origin: .*/Origin: forged/' /srv/forged/dists/*/InRelease
! apt -o APT::Update::Error-Mode=any update || fail "a forged index was taken"
echo "ok: forgeries are refused"
