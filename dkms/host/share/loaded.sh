# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# Whether the loaded module is the installed one, and whether iptables finds our extension.

LOADED=/sys/module/xt_TARPIT

# $loaded and $uses, by rules, for the other parts; a device, tarpit(4), uses it as well.
look_for_loaded_module() {
	loaded=no uses=0
	[ -d "$LOADED" ] || return 0
	loaded=yes
	first_line "$LOADED/refcnt" || return 0
	uses=$first_line
	for holder in "$LOADED/holders"/*; do
		[ ! -e "$holder" ] || uses=$((uses - 1))
	done
}

look_at_loaded_module() {
	flag module loaded "$loaded"
	[ "$loaded" = yes ] || return 0
	record fact module uses number "$uses"
	first_line "$LOADED/version" || first_line=
	loaded_version=$first_line
	fact module version "$loaded_version"
	first_line "$LOADED/srcversion" || first_line=
	fact module srcversion "$first_line"
	[ -n "${running_module:-}" ] || return 0
	[ "$running_origin" != builtin ] || return 0
	# srcversion is made of the files beside the module's own; what else a release changed, such as
	# a header in a folder, shows in its version.
	if [ "$first_line" = "$running_srcversion" ] && [ "$loaded_version" = "$running_version" ]; then
		flag module reload_due no
		return 0
	fi
	flag module reload_due yes
	what='the loaded module is not the installed one, a reload is due'
	remedy='reboot, or systemctl stop xt-tarpit; modprobe -r xt_TARPIT; systemctl start xt-tarpit'
	# What keeps it loaded, beyond the rules in our chains, has to go before.
	[ "$uses" -le "$chain_uses" ] ||
		remedy="reboot, or remove the rules that name TARPIT, modprobe -r xt_TARPIT, and add them again"
	# A device, tarpit(4), uses what the target has.
	[ ! -d "${LOADED%/*}/tarpit" ] ||
		remedy="reboot, or remove the rules that name TARPIT or a device, modprobe -r tarpit xt_TARPIT, and add them again"
	finding warning reload-due module "$what" "$remedy; clients that are held now will be let go"
}

# xtables-addons-common has an extension of the same name, which our package diverts.
look_at_extension() {
	[ "$dpkg" = yes ] && installed xt-tarpit-common || return 0
	for sums in /var/lib/dpkg/info/xt-tarpit-common.md5sums \
		/var/lib/dpkg/info/xt-tarpit-common:*.md5sums; do
		[ -r "$sums" ] || continue
		while read -r sum file; do
			case $file in
			*/libxt_TARPIT.so) check_extension "$sum" "/$file" ;;
			esac
		done <"$sums"
	done
}

check_extension() {
	fact extension file "$2"
	if [ ! -e "$2" ]; then
		flag extension ours no
		finding critical extension-missing extension "iptables cannot use TARPIT: $2 is missing" \
			'apt install --reinstall xt-tarpit-common'
		return 0
	fi
	is=$(md5sum <"$2" 2>/dev/null)
	if [ "${is%% *}" = "$1" ]; then
		flag extension ours yes
	else
		flag extension ours no
		finding warning another-extension extension "$2 is not the one of xt-tarpit-common" \
			'apt install --reinstall xt-tarpit-common'
	fi
}
