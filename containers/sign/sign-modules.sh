#!/bin/sh
# Put signatures into the modules of the package below /unsigned; the signed package goes to /out.
#
# Runs in a sealed container of the build image: no network, read-only root, an ordinary user; there
# is no key here.  Below /signatures are MODULE.ko.p7s, a detached CMS signature of each module, and
# certificate.der.  Environment: KERNEL_ABI, whose headers are unpacked below /kernel and bring the
# kernel's own sign-file; SIGNED_VERSION, of the package; SOURCE_DATE_EPOCH.
set -eu

export DPKG_DEB_THREADS_MAX=1 XZ_DEFAULTS=--threads=1
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp
umask 022

sign_file=/usr/src/linux-headers-${KERNEL_ABI}/scripts/sign-file
if ! [ -x "${sign_file}" ]; then
	echo "refused: the headers of ${KERNEL_ABI} bring no sign-file|that kernel takes no signed modules"
	exit 1
fi
tree=/build/tree
dpkg-deb --raw-extract /unsigned/*.deb "${tree}"
modules=${tree}/usr/lib/xt-tarpit/${KERNEL_ABI}
for module in "${modules}"/*.ko; do
	name=${module##*/}
	"${sign_file}" -s "/signatures/${name}.p7s" sha256 /signatures/certificate.der "${module}"
	printf '%s: signed by "%s"\n' "${name}" "$(modinfo -F signer "${module}")"
done
install -m 644 /signatures/certificate.der "${modules}/certificate.der"

# The source is what it was: as of a binary-only upload, whose version differs from its source's.
control=${tree}/DEBIAN/control
source=$(sed -n 's/^Source: //p' "${control}")
version=$(sed -n 's/^Version: //p' "${control}")
size=$(find "${tree}" -path "${tree}/DEBIAN" -prune -o -type f -printf '%s\n' |
	awk '{ kib += int(($1 + 1023) / 1024) } END { print kib + 0 }')
others=$(find "${tree}" -path "${tree}/DEBIAN" -prune -o ! -type f -printf x | wc -c)
sed -i "/^Source: /d
s/^Package: .*/&\\nSource: ${source:-$(sed -n 's/^Package: //p' "${control}")} (${version})/
s/^Version: .*/Version: ${SIGNED_VERSION}/
s/^Installed-Size: .*/Installed-Size: $((size + others))/" "${control}"
(
	cd "${tree}"
	find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z |
		xargs -0 md5sum >DEBIAN/md5sums
)
find "${tree}" -newermt "@${SOURCE_DATE_EPOCH}" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +
dpkg-deb --root-owner-group --build "${tree}" /out
