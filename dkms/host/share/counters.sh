# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# The devices of tarpit(4), and what became of the packets that they and the target have seen.

# $devices: their names.  Sets $in_use if there are any.
look_at_counters() {
	devices='' modeless=''
	told=$("$libexec/counters" 2>/dev/null) || told=
	while IFS=$tab read -r kind name state mode rest; do
		case $kind in
		counter)
			record fact counters "$name" number "$state"
			continue
			;;
		device)
			devices="$devices $name"
			[ "$mode" != unknown ] || modeless="$modeless $name"
			[ "$state" = up ] ||
				finding warning device-down devices "$name is down: what is sent to it is dropped" \
					"ip link set $name up"
			;;
		unseen)
			finding ok devices-unseen devices 'the module of the device is loaded, but only ip knows of devices' \
				'apt install iproute2'
			;;
		esac
	done <<-EOT
	$told
	EOT
	facts=$facts$told$newline
	[ -z "$modeless" ] ||
		finding ok device-mode-unseen devices "mode and counters cannot be read:$modeless" 'apt install ethtool'
	[ -z "$devices" ] || in_use=yes
}
