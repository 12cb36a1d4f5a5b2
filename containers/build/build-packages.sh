#!/bin/sh
# Build every source tree below /src with dpkg-buildpackage and leave the results in /out.
#
# Runs in a sealed container of the build image: no network, read-only root, an ordinary user;
# /build is empty.  Environment: KERNEL_ABI, whose headers are unpacked below /kernel, or PREBUILT, a
# folder of modules for it; HOST_ARCH, what it runs on (unless set, this architecture); CC_PACKAGE, the
# compiler's package; KERNEL_PACKAGES, the header packages below /kernel, each as NAME=VERSION;
# SOURCE_DATE_EPOCH.
set -eu

# dpkg-deb's and xz's output must not depend on how many processors there are.
export DPKG_DEB_THREADS_MAX=1 XZ_DEFAULTS=--threads=1
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp
: "${HOST_ARCH:=$(dpkg --print-architecture)}"
of_host() {
	CC=true dpkg-architecture --host-arch "${HOST_ARCH}" --query "$1"
}
triplet=$(of_host DEB_HOST_GNU_TYPE)
# Cross-compilers' packages end with what their programs begin with.
compiler=${CC_PACKAGE%-"$(printf %s "${triplet}" | tr _ -)"}
# Debian's kernel Makefiles name their compiler; the extension is built with the same one.
export CROSS_COMPILE="${triplet}-" CC="${triplet}-${compiler}"
PKG_CONFIG_LIBDIR=/usr/lib/$(of_host DEB_HOST_MULTIARCH)/pkgconfig:/usr/share/pkgconfig
export PKG_CONFIG_LIBDIR
# The build id of a module is made of debugging information, which has the paths of the headers: let
# it be the one that comes out where they are installed.
export KCFLAGS=-fdebug-prefix-map=/kernel/usr/src=/usr/src
# debhelper wants to be told that what is for another architecture cannot be run here.
[ "${HOST_ARCH}" = "$(dpkg --print-architecture)" ] || export DEB_BUILD_OPTIONS=nocheck
umask 022

stage() {
	printf '### %s\n' "$*"
}

# build NAME: the tree /src/NAME, in a folder of its own.
build() {
	stage "build $1"
	mkdir "/build/$1"
	# Not cp -a: the new time stamps are what dpkg sets back to SOURCE_DATE_EPOCH.
	cp -r "/src/$1" "/build/$1/$1"
	cd "/build/$1/$1"
	chmod 755 debian/rules
	# -nc: the tree is new.  -d: kernel headers are unpacked here, not installed.  The .buildinfo
	# would hold the time of day and the number of processors, and .changes its digest; and it would
	# not name the headers, which debrebuild(1) has to install before it can build.
	headers=
	case $1 in
	xt-tarpit-modules-*)
		for package in ${KERNEL_PACKAGES:-}; do
			headers="${headers}\\n ${package%%=*} (= ${package#*=}),"
		done
		;;
	esac
	change="s/^Build-Date: .*/Build-Date: ${release_date}/;s/^Installed-Build-Depends:\$/&${headers}/"
	dpkg-buildpackage --build=full --unsigned-source --unsigned-changes --no-pre-clean \
		--no-check-builddeps --jobs=1 --host-arch="${HOST_ARCH}" \
		--hook-changes="sed -i '${change}' ../*.buildinfo"
}

if [ -z "${PREBUILT:-}" ] && ! [ -e "/usr/src/linux-headers-${KERNEL_ABI}/Makefile" ]; then
	echo "no headers of ${KERNEL_ABI} below /usr/src" >&2
	exit 1
fi
release_date=$(date --utc --rfc-email --date="@${SOURCE_DATE_EPOCH}")

# probed: what the module's probes found; tarpit_builder/porting/log.py reads these lines.
probed() {
	find /build -name 'tarpit-probes.h*' ! -name '*.cmd' | sort | while read -r file; do
		sed "s/^/${file##*/}: /" "${file}"
	done
}

# Most of the time goes into dpkg's and debhelper's many small programs, so the trees are built
# side by side.  What each says comes out in one piece, and last what a failed one says.
for source in /src/*/; do
	name=$(basename "${source}")
	(build "${name}"; : >"/tmp/${name}.built") >"/tmp/${name}.log" 2>&1 &
done
wait
probed
status=0
for log in /tmp/*.log; do
	if [ -e "${log%.log}.built" ]; then
		cat "${log}"
	else
		status=1
	fi
done
if [ "${status}" -ne 0 ]; then
	for log in /tmp/*.log; do
		[ -e "${log%.log}.built" ] || cat "${log}"
	done
	exit "${status}"
fi

stage "toolchain"
{
	"${CC}" --version | head -n 1
	"${triplet}-ld" --version | head -n 1
	# shellcheck disable=SC2016  # the ${…} are dpkg-query's
	dpkg-query --show --showformat='${Package} ${Version}\n' \
		binutils "${CC_PACKAGE}" debhelper dpkg-dev kmod "libc6-dev:${HOST_ARCH}" \
		"libxtables-dev:${HOST_ARCH}" make
} >/out/toolchain.txt

find /build -mindepth 2 -maxdepth 2 -type f -exec cp {} /out/ \;
stage "done"
