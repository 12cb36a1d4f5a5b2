#!/bin/sh
# In a clean container that may change its own firewall: bans by the fail2ban of the suite, with
# ACTION, JAIL_LOCAL, and the jail probe of JAIL and FILTER, of the environment.  There is no module
# here: what bans lead to is a DROP.
set -eu

quietly() {
	"$@" >log 2>&1 || {
		cat log
		exit 1
	}
}

# rules PROGRAM CHAIN: the chain's rules, one line.
rules() {
	"$1" -S "$2" | grep '^-A' | tr '\n' ';'
}

# same WHAT EXPECTED, after a while: fail2ban acts when it gets to it.
same() {
	for _ in $(seq 100); do
		[ "$($1 2>/dev/null)" != "$2" ] || return 0
		sleep 0.2
	done
	echo "$1: expected $2, found $($1 2>&1)"
	cat /var/log/fail2ban.log
	exit 1
}

# fail ADDRESS: it is banned.
fail() {
	for _ in 1 2 3; do
		echo "$(date +%s) failed login from $1" >>/var/log/probe.log
	done
}

quietly apt-get -qq update
quietly apt-get -qq install --no-install-recommends fail2ban iptables
printf '%s' "${ACTION}" >/etc/fail2ban/action.d/xt-tarpit.conf
printf '%s' "${JAIL_LOCAL}" >/etc/fail2ban/jail.local
printf '%s' "${FILTER}" >/etc/fail2ban/filter.d/probe.conf
printf '%s' "${JAIL}" >/etc/fail2ban/jail.d/probe.local
cat >/etc/fail2ban/jail.d/web.local <<'END'
[web]
enabled = true
backend = polling
filter = probe
chain = DOCKER-USER
logpath = /var/log/web.log
END
: >/var/log/probe.log
: >/var/log/web.log
iptables -N DOCKER-USER
mkdir -p /run/fail2ban
quietly fail2ban-server -b --loglevel INFO

fail 203.0.113.5
fail 2001:db8:5::5
same 'rules iptables INPUT' '-A INPUT -j f2b-probe;'
same 'rules iptables f2b-probe' '-A f2b-probe -s 203.0.113.5/32 -j XT-TARPIT;'
same 'rules iptables XT-TARPIT' '-A XT-TARPIT -j DROP;'
same 'rules ip6tables INPUT' '-A INPUT ! -p ipv6-icmp -j f2b-probe;'
same 'rules ip6tables f2b-probe' '-A f2b-probe -s 2001:db8:5::5/128 -j XT-TARPIT;'
same 'rules ip6tables XT-TARPIT' '-A XT-TARPIT -j DROP;'

# A jail for containers.
quietly fail2ban-client set web banip 203.0.113.8
same 'rules iptables DOCKER-USER' '-A DOCKER-USER -j f2b-web;'

# The jump alone is lost: the next ban brings it back, and no ban is lost or entered twice.
iptables -F INPUT
quietly fail2ban-client set probe banip 203.0.113.6
same 'rules iptables INPUT' '-A INPUT -j f2b-probe;'
same 'rules iptables f2b-probe' \
	'-A f2b-probe -s 203.0.113.6/32 -j XT-TARPIT;-A f2b-probe -s 203.0.113.5/32 -j XT-TARPIT;'
quietly fail2ban-client set probe unbanip 203.0.113.5
quietly fail2ban-client set probe unbanip 203.0.113.6
same 'iptables -S f2b-probe' '-N f2b-probe'

# Everything is lost.
printf '*filter\nCOMMIT\n' | iptables-restore
quietly fail2ban-client set probe banip 203.0.113.7
same 'rules iptables f2b-probe' '-A f2b-probe -s 203.0.113.7/32 -j XT-TARPIT;'
same 'rules iptables XT-TARPIT' '-A XT-TARPIT -j DROP;'

# A chain that our service has filled is left as it is.
iptables -I XT-TARPIT -p tcp -j REJECT
quietly fail2ban-client restart
same 'rules iptables f2b-probe' '-A f2b-probe -s 203.0.113.7/32 -j XT-TARPIT;'
same 'rules iptables XT-TARPIT' \
	'-A XT-TARPIT -p tcp -j REJECT --reject-with icmp-port-unreachable;-A XT-TARPIT -j DROP;'

quietly fail2ban-client stop
same 'rules iptables INPUT' ''
same 'rules ip6tables INPUT' ''
echo "done"
