#!/bin/sh
# Run by mmdebstrap when all packages are installed: makes a disk that boots with the agent.
#
#	finish.sh ROOT HERE OUT [PACKAGE]...
#
# PACKAGEs are not installed but downloaded with what they depend on, so that apt finds them in its
# cache: the guest has no network.
set -eu
ROOT=$1 HERE=$2 OUT=$3
shift 3

if [ $# -gt 0 ]; then
	APT_CONFIG=${MMDEBSTRAP_APT_CONFIG} apt-get -qq --download-only install "$@" >&2
fi

install -m 755 "${HERE}/agent.sh" "${ROOT}/usr/local/sbin/guest-agent"
cat >"${ROOT}/etc/systemd/system/guest-agent.service" <<'END'
[Unit]
Description=The tests' hand in this machine
[Service]
ExecStart=/usr/local/sbin/guest-agent
Environment=HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
[Install]
WantedBy=multi-user.target
END
install -d "${ROOT}/etc/systemd/system/multi-user.target.wants"
ln -s ../guest-agent.service "${ROOT}/etc/systemd/system/multi-user.target.wants"

# iptables-persistent and ipset-persistent save what the kernel has when they are configured: here
# that is the firewall of the machine that makes the image.
rm -f "${ROOT}"/etc/iptables/*

# What would only take time, or change things while a test looks.
touch "${ROOT}/etc/.updated" "${ROOT}/var/.updated"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer getty@tty1.service serial-getty@ttyS0.service \
	modprobe@drm.service modprobe@configfs.service systemd-timesyncd.service; do
	ln -sf /dev/null "${ROOT}/etc/systemd/system/${unit}"
done

echo '/dev/vda / ext4 defaults 0 0' >"${ROOT}/etc/fstab"
echo guest >"${ROOT}/etc/hostname"
echo '127.0.0.1 localhost guest' >"${ROOT}/etc/hosts"
rm -f "${ROOT}/etc/resolv.conf"
# Without one, systemd takes the first boot for an installation and sets every unit to its preset.
echo 0123456789abcdef0123456789abcdef >"${ROOT}/etc/machine-id"
install -d "${ROOT}/var/log/journal"

# Documentation was left out to save time; that of the packages under test is wanted.
echo force-unsafe-io >"${ROOT}/etc/dpkg/dpkg.cfg.d/guest"
rm -f "${ROOT}/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

# What a machine with Secure Boot begins with, where its packages were asked for.
for file in /usr/lib/shim/shimx64.efi.signed /usr/lib/shim/mmx64.efi.signed \
	/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed \
	/usr/share/OVMF/OVMF_CODE_4M.secboot.fd /usr/share/OVMF/OVMF_VARS_4M.ms.fd; do
	if [ -e "${ROOT}${file}" ]; then
		install -D -m 644 -t "${OUT}/firmware" "${ROOT}${file}"
	fi
done

cp "${ROOT}"/boot/vmlinuz-* "${ROOT}"/boot/initrd.img-* "${OUT}"
# The root itself has /proc, /sys and /dev mounted below it; another view of it does not.
view=$(mktemp -d)
mount --bind "${ROOT}" "${view}"
status=0
mke2fs -q -F -t ext4 -E lazy_itable_init=1,root_owner=0:0 -d "${view}" "${OUT}/disk" 4G || status=$?
umount "${view}"
rmdir "${view}"
exit "${status}"
