#!/bin/sh
# Run by mmdebstrap once the essential packages are there, before kernels: their initramfs holds
# what a virtual disk takes and nothing else, so that it is made and unpacked quickly.
#
#	prepare.sh ROOT FILES
#
# FILES is a folder of what is to be there before packages are configured.
set -eu
ROOT=$1 FILES=$2

cp -R "${FILES}/." "${ROOT}"

install -d "${ROOT}/etc/initramfs-tools/conf.d" "${ROOT}/etc/initramfs-tools/hooks"
cat >"${ROOT}/etc/initramfs-tools/conf.d/guest" <<'END'
MODULES=list
COMPRESS=gzip
FSTYPE=ext4
END
cat >"${ROOT}/etc/initramfs-tools/hooks/guest" <<'END'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
for module in virtio_pci virtio_blk virtio_console crc32c_generic ext4; do
	force_load "${module}"
done
END
chmod 755 "${ROOT}/etc/initramfs-tools/hooks/guest"
