#!/bin/sh
# A kernel upgrade on a host that has TARPIT, from a clean root, with the kernels of the archive:
# what was the newest one gives way to what is.  The packages are below /packages.
#
#	upgrade.sh older		print the ABI of the kernel that there is to upgrade from
#	upgrade.sh dkms			with DKMS and the metapackage of the headers
#	upgrade.sh prebuilt		with prebuilt modules from a repository that has a metapackage
set -eu

FLAVOUR=cloud-amd64
IMAGE=linux-image-${FLAVOUR}
HEADERS=linux-headers-${FLAVOUR}
REPOSITORY=/srv/tarpit

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# shellcheck source=/dev/null
. /test/apt.sh

fail() {
	echo "FAILED: $*"
	exit 1
}

# says TEXT: the hook's lines about the kernels just installed, of which one must be TEXT.
says() {
	grep '^xt-tarpit: ' /tmp/apt.log || true
	grep -qxF "xt-tarpit: $1" /tmp/apt.log || fail "apt did not say: xt-tarpit: $1"
}

has_tarpit() {
	file=$(modinfo -k "$1" -F filename xt_TARPIT) || fail "kernel $1 has no TARPIT"
	echo "ok: kernel $1 has ${file}"
}

# version oldest|newest: of the kernel's metapackage.
version() {
	case $1 in
	oldest) apt-cache madison "${IMAGE}" | tail -n 1 ;;
	newest) apt-cache madison "${IMAGE}" | head -n 1 ;;
	esac | cut -d '|' -f 2 | tr -d ' '
}

abi() {
	apt-cache show "${HEADERS}=$(version "$1")" | sed -n "s/^Depends: linux-headers-\([^ ]*\).*/\1/p"
}

# A repository as small as apt takes one, with a metapackage that depends on the modules for $1.
publish() {
	mkdir -p "${REPOSITORY}" "/tmp/meta-$1/DEBIAN"
	cat >"/tmp/meta-$1/DEBIAN/control" <<-END
		Package: xt-tarpit-modules-${FLAVOUR}
		Version: $2
		Architecture: amd64
		Maintainer: Jane Doe <jane@example.org>
		Depends: xt-tarpit-modules-$1
		Description: TARPIT target for iptables - module for the newest kernel
	END
	dpkg-deb --build "/tmp/meta-$1" "${REPOSITORY}" >/dev/null
	cp /packages/xt-tarpit-common_*.deb "/packages/xt-tarpit-modules-$1"_*.deb "${REPOSITORY}"
	for deb in "${REPOSITORY}"/*.deb; do
		dpkg-deb --field "${deb}"
		echo "Filename: ./${deb##*/}"
		echo "Size: $(wc -c <"${deb}")"
		echo "SHA256: $(sha256sum "${deb}" | cut -d ' ' -f 1)"
		echo
	done >"${REPOSITORY}/Packages"
	echo "deb [trusted=yes] file:${REPOSITORY} ./" >/etc/apt/sources.list.d/tarpit.list
	apt-get update -qq
}

apt-get update -qq
OLD=$(abi oldest)
NEW=$(abi newest)
if [ "$1" = older ]; then
	echo "${OLD}"
	exit 0
fi
[ "${OLD}" != "${NEW}" ] || fail "the archive has one ABI only, ${OLD}"

printf 'Package: %s %s\nPin: version %s\nPin-Priority: 1001\n' \
	"${IMAGE}" "${HEADERS}" "$(version oldest)" >/etc/apt/preferences.d/older

case $1 in
dkms)
	run_apt install iptables "${IMAGE}" "${HEADERS}" \
		/packages/xt-tarpit-common_*.deb /packages/xt-tarpit-dkms_*.deb
	settled
	has_tarpit "${OLD}"
	rm /etc/apt/preferences.d/older
	run_apt full-upgrade
	settled
	# The headers may come after the image, or before it.
	says "kernel ${NEW} has TARPIT"
	has_tarpit "${NEW}"
	# Without the metapackage, the next kernel has no headers: the hook says what is missing.
	run_apt purge "${IMAGE}" "linux-image-${NEW}" "${HEADERS}" "linux-headers-${NEW}"
	run_apt install "${IMAGE}"
	says "kernel ${NEW} has no TARPIT without its headers; apt install ${HEADERS}"
	run_apt install "${HEADERS}"
	says "kernel ${NEW} has TARPIT"
	has_tarpit "${NEW}"
	;;
prebuilt)
	publish "${OLD}" 1
	run_apt install iptables "${IMAGE}" "xt-tarpit-modules-${FLAVOUR}"
	has_tarpit "${OLD}"
	rm /etc/apt/preferences.d/older
	run_apt full-upgrade
	settled
	says "kernel ${NEW} has no TARPIT; no package source has xt-tarpit-modules-${NEW}, see xt-tarpit(8)"
	# The same upgrade, once the repository has followed.
	run_apt purge "${IMAGE}" "linux-image-${NEW}"
	run_apt install "${IMAGE}=$(version oldest)"
	publish "${NEW}" 2
	run_apt full-upgrade
	settled
	has_tarpit "${NEW}"
	! ls -d /usr/src/xt-tarpit-* 2>/dev/null || fail "xt-tarpit-dkms was brought in"
	# Two kernels, of which one has no module: the other one's remains.
	run_apt purge "xt-tarpit-modules-${NEW}"
	has_tarpit "${OLD}"
	! modinfo -k "${NEW}" xt_TARPIT >/dev/null 2>&1 || fail "kernel ${NEW} still has TARPIT"
	/etc/kernel/postinst.d/zz-xt-tarpit "${NEW}" 2>/tmp/apt.log
	says "kernel ${NEW} has no TARPIT; apt install xt-tarpit-modules-${NEW}"
	;;
*)
	fail "no such way: $1"
	;;
esac
echo "done"
