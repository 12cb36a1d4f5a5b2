# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# Rule sets on disk that name TARPIT.  iptables-restore refuses such a set as a whole when the
# module cannot be loaded, and the firewall is open.

# Sets $in_use: whether something on disk relies on TARPIT.
look_at_saved_rules() {
	in_use=no
	sealed=
	# Restored as a whole.
	look_into set /etc/iptables/* /etc/iptables.rules /etc/ip6tables.rules \
		/etc/iptables.up.rules /etc/ip6tables.up.rules /etc/sysconfig/iptables \
		/etc/sysconfig/ip6tables /etc/ufw/*.rules /etc/firewalld/direct.xml \
		/etc/nftables.conf /etc/nftables.d/* /etc/sysconfig/nftables.conf \
		/var/lib/iptables/* /var/lib/ip6tables/*
	# Run line by line: without the module only the rule is missing.
	look_into script /etc/network/interfaces /etc/network/interfaces.d/* \
		/etc/network/if-pre-up.d/* /etc/network/if-up.d/* /etc/rc.local
	[ -z "$sealed" ] || finding ok saved-unseen 'saved rules' "not readable:$sealed" \
		'sudo xt-tarpit-status'
}

# look_into set|script FILE...
look_into() {
	kind=$1
	shift
	for file; do
		shift
		if [ ! -f "$file" ]; then
			continue
		elif [ -r "$file" ]; then
			set -- "$@" "$file"
		else
			sealed="$sealed $file"
		fi
	done
	[ $# -gt 0 ] || return 0
	named=$(awk -f "$share/saved.awk" "$@")
	[ -n "$named" ] || return 0
	in_use=yes
	while read -r at count; do
		[ "$count" -gt 0 ] || continue
		eval "file=\${$at}"
		record saved "$kind" "$file" "$count"
		"saved_$kind" "$file"
	done <<-EOT
	$named
	EOT
}

saved_set() {
	case $1 in
	*nftables*)
		finding critical saved-set-nft 'saved rules' \
			"$1 names TARPIT, which nft cannot restore: it refuses the whole file" \
			'take TARPIT out and let xt-tarpit.service add it: xt-tarpit-chain(8)'
		;;
	*)
		finding warning saved-set 'saved rules' \
			"$1 names TARPIT: without the module, all of it is refused and the firewall is open" \
			'write -j XT-TARPIT in place of -j TARPIT and declare that chain: xt-tarpit-chain(8)'
		;;
	esac
}

saved_script() {
	finding warning saved-rule 'saved rules' \
		"$1 adds a rule that names TARPIT: without the module, the rule is missing" \
		'let it jump to XT-TARPIT, which then drops: xt-tarpit-chain(8)'
}
