# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# What was found: in $facts one record a line, its fields separated by tabs; within a field,
# backslash, tab and newline are written \\, \t and \n.  report.awk reads them.

facts=
tab='	'
newline='
'

# encode TEXT: sets $encoded.
encode() {
	encoded=
	rest=$1
	while :; do
		head=${rest%%[\\"$tab$newline"]*}
		encoded=$encoded$head
		[ "$head" != "$rest" ] || break
		rest=${rest#"$head"}
		case $rest in
		\\*) encoded="$encoded\\\\" ;;
		"$tab"*) encoded="$encoded\\t" ;;
		*) encoded="$encoded\\n" ;;
		esac
		rest=${rest#?}
	done
}

# record KIND FIELD...
record() {
	line=$1
	shift
	for field; do
		encode "$field"
		line=$line$tab$encoded
	done
	facts=$facts$line$newline
}

# fact GROUP KEY VALUE: a text, or "" where there is none.
fact() {
	record fact "$1" "$2" text "$3"
}

# flag GROUP KEY yes|no|unknown
flag() {
	record fact "$1" "$2" flag "$3"
}

# finding ok|warning|critical|unknown CODE BLOCK TEXT [REMEDY]: "ok" is a note that does not count.
finding() {
	record finding "$1" "$2" "$3" "$4" "${5:-}"
}

# first_line FILE: sets $first_line; fails if FILE cannot be read or is empty.
first_line() {
	first_line=
	[ -r "$1" ] || return 1
	# The last line may lack its newline.
	{ IFS= read -r first_line || [ -n "$first_line" ]; } 2>/dev/null <"$1"
}

have() {
	command -v "$1" >/dev/null 2>&1
}

# What every part needs to know: $running, $contained (why the running kernel is not this system's
# own, or empty) and $uid.
look_around() {
	first_line /proc/sys/kernel/osrelease || first_line=$(uname -r)
	running=$first_line
	uid=$(id -u)
	contained=
	if [ -e /run/systemd/container ] || [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then
		contained=container
	elif have ischroot && ischroot; then
		contained=chroot
	fi
	fact host running "$running"
	fact host contained "$contained"
	if [ "$uid" -eq 0 ]; then flag host root yes; else flag host root no; fi
	look_at_packages
}

# $packages: "NAME VERSION" of what is installed of ours and of kernels; $follows: for each kernel
# image that a metapackage follows, "META IMAGE".  $dpkg tells whether that could be asked.
look_at_packages() {
	packages='' follows='' dpkg=no
	have dpkg-query || return 0
	dpkg=yes
	# shellcheck disable=SC2016  # the ${…} are dpkg-query's
	listed=$(dpkg-query --show \
		--showformat='${db:Status-Status}\t${Package}\t${Version}\t${Depends}\n' \
		'linux-image-*' 'linux-headers-*' 'xt-tarpit-*' 'xtables-addons-*' 2>/dev/null)
	while IFS=$tab read -r status package release depends; do
		[ "$status" = installed ] || continue
		packages="$packages$package $release$newline"
		# Some have a number too: linux-image-6.12-cloud-amd64 of backports.
		case $package in
		*-dbg) ;;
		linux-image-*)
			for word in $depends; do
				case ${word%,} in
				linux-image-[0-9]*) follows="$follows$package ${word%,}$newline" ;;
				esac
			done
			;;
		esac
	done <<-EOT
	$listed
	EOT
}

# installed PACKAGE
installed() {
	case $newline$packages in
	*"$newline$1 "*) return 0 ;;
	esac
	return 1
}
