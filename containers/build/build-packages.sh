#!/bin/sh
# Build every source tree below /src with dpkg-buildpackage and leave the results in /out.
#
# Runs in a sealed container of the build image: no network, read-only root, an ordinary user;
# /build is empty.  Environment: KERNEL_ABI, whose headers are unpacked below /kernel; CC_PACKAGE,
# the compiler's package; SOURCE_DATE_EPOCH.
set -eu

# dpkg-deb's and xz's output must not depend on how many processors there are.
export DPKG_DEB_THREADS_MAX=1 XZ_DEFAULTS=--threads=1
# Debian's kernel Makefiles name their compiler; the extension is built with the same one.
export CC="${CC_PACKAGE}"
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp
umask 022

stage() {
	printf '### %s\n' "$*"
}

if ! [ -e "/usr/src/linux-headers-${KERNEL_ABI}/Makefile" ]; then
	echo "no headers of ${KERNEL_ABI} below /usr/src" >&2
	exit 1
fi

for source in /src/*/; do
	tree="/build/$(basename "${source}")"
	stage "build ${tree##*/}"
	# Not cp -a: the new time stamps are what dpkg sets back to SOURCE_DATE_EPOCH.
	cp -r "${source}" "${tree}"
	chmod 755 "${tree}/debian/rules"
	cd "${tree}"
	# -nc: the tree is new.  -d: kernel headers are unpacked here, not installed.
	dpkg-buildpackage --build=full --unsigned-source --unsigned-changes --no-pre-clean \
		--no-check-builddeps
	# A .buildinfo names the moment of the build; two builds shall be the same to the byte, and
	# what it is good for is in manifest.json.
	sed -i '/\.buildinfo /d' debian/files
	rm ../*.buildinfo
	for changes in ../*.changes; do
		case ${changes} in
		"../$(dpkg-parsechangelog --show-field Source)_"*)
			dpkg-genchanges -q --build=full >"${changes}.new"
			mv "${changes}.new" "${changes}"
			;;
		esac
	done
	cd /build
done

stage "toolchain"
{
	"${CC_PACKAGE}" --version | head -n 1
	ld --version | head -n 1
	# shellcheck disable=SC2016  # the ${…} are dpkg-query's
	dpkg-query --show --showformat='${Package} ${Version}\n' \
		binutils "${CC_PACKAGE}" debhelper dpkg-dev kmod libc6-dev libxtables-dev make
} >/out/toolchain.txt

find /build -maxdepth 1 -type f -exec cp {} /out/ \;
stage "done"
