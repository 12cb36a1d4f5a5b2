# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# The rules that use TARPIT, the chains of xt-tarpit-chain, and the service that arms them.

# Sets $in_use: whether anything here relies on TARPIT.
look_at_firewall() {
	look_for_loaded_module
	look_at_service
	chains='' chain_uses=0 armed=no dropping=no unseen='' rules=0
	if told=$("$libexec/rules" 2>/dev/null); then
		while IFS=$tab read -r kind family backend table chain state rest; do
			case $kind in
			rule)
				rules=$((rules + 1))
				case $chain in
				XT-TARPIT | XT-TARPIT-INPUT | XT-TARPIT-FORWARD) chain_uses=$((chain_uses + 1)) ;;
				esac
				;;
			chain) look_at_chain ;;
			unseen) unseen="$unseen, $family $backend" ;;
			esac
		done <<-EOT
		$told
		EOT
		facts=$facts$told$newline
	else
		unseen=', all'
	fi
	unseen=${unseen#, }
	fact firewall unseen "$unseen"
	if [ -n "$unseen" ] && [ "$loaded" = yes ] && [ "$uid" -eq 0 ]; then
		finding unknown rules-unseen rules "cannot read the rules of $unseen" \
			'iptables-save tells why'
	elif [ -n "$unseen" ] && [ "$loaded" = yes ]; then
		finding ok rules-unseen rules "the module is used by $uses rules; which ones, only root can see" \
			'sudo xt-tarpit-status'
	elif [ -z "$unseen" ] && [ "$uses" -gt "$rules" ]; then
		finding ok rules-elsewhere rules \
			"rules of other network namespaces, such as those of containers, use the module: $((uses - rules))"
	fi
	judge_service
	[ "$service" = absent ] || [ "$service" = disabled-inactive ] || in_use=yes
	[ -z "$chains" ] || in_use=yes
	[ "$rules" -eq 0 ] && [ "$uses" -eq 0 ] || in_use=yes
}

# $service: absent, unknown, or ENABLED-ACTIVE as systemd has them, enabled-failed for example.
look_at_service() {
	service=absent
	[ -d /run/systemd/system ] && have systemctl || return 0
	load='' active='' enabled=''
	told=$(systemctl show --property=LoadState,ActiveState,UnitFileState xt-tarpit.service 2>/dev/null)
	while IFS='=' read -r key value; do
		case $key in
		LoadState) load=$value ;;
		ActiveState) active=$value ;;
		UnitFileState) enabled=$value ;;
		esac
	done <<-EOT
	$told
	EOT
	case $load in
	'') service=unknown ;;
	not-found) service=absent ;;
	*) service=$enabled-$active ;;
	esac
	fact service enabled "$enabled"
	fact service active "$active"
}

# A chain as rules.awk tells: $family, $backend, $table, $chain, $state, and how many rules jump
# to it in $rest.
look_at_chain() {
	chains="$chains $chain"
	what="$family $table chain $chain ($backend)"
	case $state in
	armed) armed=yes ;;
	drop) dropping=yes ;;
	*)
		finding critical chain-open service "$what neither holds nor drops what comes to it" \
			"$reload"
		;;
	esac
	if [ "$rest" -eq 0 ]; then
		finding ok chain-unused service "nothing jumps to $what" \
			"a rule such as -A INPUT -p tcp -j $chain, see xt-tarpit-chain(8)"
	fi
}

reload='systemctl reload-or-restart xt-tarpit'
[ -d /run/systemd/system ] || reload='xt-tarpit-chain start'

judge_service() {
	case $service in
	*-failed)
		finding critical service-failed service \
			'xt-tarpit.service failed: what TARPIT would hold is dropped' \
			"the reason: journalctl -u xt-tarpit -b; then: systemctl restart xt-tarpit"
		;;
	enabled-inactive)
		finding warning service-inactive service 'xt-tarpit.service is enabled, but not active' \
			'systemctl start xt-tarpit'
		;;
	disabled-active)
		finding warning service-disabled service \
			'xt-tarpit.service is not enabled: after a reboot its chains only drop' \
			'systemctl enable xt-tarpit'
		;;
	esac
	# A failed service has said it all.
	case $service in
	*-failed) return 0 ;;
	esac
	if [ "$dropping" = yes ]; then
		case $service in
		enabled-active | disabled-active)
			finding critical chain-not-armed service \
				'xt-tarpit.service is active, but a chain of it only drops' "$reload"
			;;
		disabled-inactive)
			finding warning chain-not-armed service \
				'the chain XT-TARPIT only drops: xt-tarpit.service is not enabled' \
				'systemctl enable --now xt-tarpit'
			;;
		absent)
			finding warning chain-not-armed service 'the chain XT-TARPIT only drops' "$reload"
			;;
		esac
	elif [ -z "$chains$unseen" ]; then
		case $service in
		*-active)
			finding critical chain-gone service \
				'xt-tarpit.service is active, but its chain is gone: something flushed the rules' "$reload"
			;;
		esac
	fi
}
