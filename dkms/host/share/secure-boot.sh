# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# Whether the running kernel wants modules signed, and whether it trusts who signed ours.

EFIVARS=/sys/firmware/efi/efivars
GLOBAL=8be4df61-93ca-11d2-aa0d-00e098032b8c
SECURITY=d719b2cb-3d3a-4596-a3bc-dad00e67656f
SHIM=605dab50-e046-4300-abb6-3dd810dd8b23

secure_boot_seen=no

# bytes FILE: its content as " 0a 1b 2c " in $bytes; fails if it cannot be read.  A variable's first
# four bytes are its attributes.
bytes() {
	bytes=
	[ -r "$1" ] || return 1
	bytes=$(od -An -v -tx1 "$1" 2>/dev/null | tr -s ' \n' ' ')
	[ -n "$bytes" ]
}

# $secure_boot: on, off or unknown.  shim can switch its own part off (mokutil
# --disable-validation); the kernel then takes Secure Boot for off.
look_at_firmware() {
	secure_boot=unknown
	if [ ! -d /sys/firmware ]; then
		return 0
	elif [ ! -d /sys/firmware/efi ]; then
		secure_boot=off
	elif bytes "$EFIVARS/SecureBoot-$GLOBAL"; then
		case $bytes in
		' '??' '??' '??' '??' 01 ') secure_boot=on ;;
		*) secure_boot=off ;;
		esac
		if bytes "$EFIVARS/MokSBStateRT-$SHIM"; then
			case $bytes in
			' '??' '??' '??' '??' 01 ') secure_boot=off ;;
			esac
		fi
	fi
}

# $signed_only: whether the running kernel refuses modules that it does not trust.
look_at_kernel_policy() {
	lockdown=unknown
	if first_line /sys/kernel/security/lockdown; then
		case $first_line in
		*'[none]'*) lockdown=none ;;
		*'[integrity]'*) lockdown=integrity ;;
		*'[confidentiality]'*) lockdown=confidentiality ;;
		esac
	elif [ -d /sys/kernel/security ] && [ -e /sys/kernel/security/lsm ]; then
		lockdown=none
	fi
	sig_enforce=unknown
	if first_line /sys/module/module/parameters/sig_enforce; then
		case $first_line in
		Y) sig_enforce=yes ;;
		N) sig_enforce=no ;;
		esac
	fi
	case $sig_enforce-$lockdown in
	yes-* | *-integrity | *-confidentiality) signed_only=yes ;;
	no-none) signed_only=no ;;
	*)
		# One of them is not to be seen: by Debian's kernels, Secure Boot decides.
		case $secure_boot in
		on) signed_only=yes ;;
		off) signed_only=no ;;
		*) signed_only=unknown ;;
		esac
		;;
	esac
}

look_at_secure_boot() {
	[ "$secure_boot_seen" = no ] || return 0
	secure_boot_seen=yes
	look_at_firmware
	look_at_kernel_policy
	fact secure_boot state "$secure_boot"
	fact secure_boot lockdown "$lockdown"
	flag secure_boot signed_only "$signed_only"
	mok_new=no
	[ ! -e "$EFIVARS/MokNew-$SHIM" ] || mok_new=yes
}

# $serial: serial number $1 as the lists of firmware and shim have it.  openssl draws it at random, 20
# bytes long; short ones would be found anywhere, and fail.
serial_of() {
	serial=" $(printf '%s' "$1" | tr 'A-F:' 'a-f ') "
	[ "${#serial}" -ge 25 ]
}

# listed VARIABLE: whether a certificate of $serial is in that list.
listed() {
	bytes "$EFIVARS/$1" || return 1
	case $bytes in
	*"$serial"*) return 0 ;;
	esac
	return 1
}

# Whether the kernel trusts the key of serial number $1 and issuer $2: $enrolled is yes, no or
# unknown.
look_for_key() {
	enrolled=unknown
	serial_of "$1" || return 0
	for variable in "db-$SECURITY" "MokListRT-$SHIM"; do
		if listed "$variable"; then
			enrolled=yes
			return 0
		fi
	done
	seen=no
	[ ! -r "$EFIVARS/db-$SECURITY" ] || seen=yes
	# What was compiled in, and what firmware that is not UEFI has: the keyring knows names only.
	keys=$(grep -F asymmetri /proc/keys 2>/dev/null) || return 0
	case $keys in
	*" $2: "*) return 0 ;;
	esac
	[ "$seen" = no ] && [ -d /sys/firmware/efi ] || enrolled=no
}

# The module of kernel $1, which look_at_module has just seen.  What is loaded was trusted.
look_at_signature() {
	# Firmware and keys of a container are its host's.
	[ -z "$contained" ] || return 0
	look_at_secure_boot
	[ "$signed_only" != no ] || return 0
	accepted=no
	if [ "$1" = "$running" ] && first_line /sys/module/xt_TARPIT/srcversion &&
		[ "$first_line" = "$srcversion" ]; then
		accepted=yes
	fi
	severity=critical
	[ "$signed_only" = yes ] || severity=unknown
	if [ -z "$signer" ]; then
		[ "$accepted" = no ] || return 0
		case $origin in
		dkms | local) remedy='see "Secure Boot" in xt-tarpit(8); DKMS signs with /var/lib/dkms/mok.key when openssl is installed' ;;
		*) remedy='see "Secure Boot" in xt-tarpit(8); xt-tarpit-dkms signs what it builds' ;;
		esac
		finding "$severity" module-not-signed 'Secure Boot' \
			"the module for $1 is not signed, and $(refusal)" "$remedy"
		return 0
	fi
	certificate=/usr/lib/xt-tarpit/$1/certificate.der
	case $origin in
	dkms) certificate=/var/lib/dkms/mok.pub ;;
	*)
		look_at_dates "$1"
		[ -e "$certificate" ] || certificate="CERTIFICATE of $signer"
		;;
	esac
	if serial_of "$sig_key" && { listed "dbx-$SECURITY" || listed "MokListXRT-$SHIM"; }; then
		fact secure_boot enrolled revoked
		key_was_revoked "$1"
		return 0
	fi
	if [ "$accepted" = yes ]; then
		enrolled=yes
	else
		look_for_key "$sig_key" "$signer"
	fi
	fact secure_boot enrolled "$enrolled"
	[ "$enrolled" != yes ] || return 0
	remedy="mokutil --import $certificate; reboot and confirm it on the console"
	[ "$mok_new" = no ] || remedy="an enrolment is pending: reboot and confirm it on the console, else $remedy"
	if [ "$enrolled" = no ]; then
		finding "$severity" signer-not-enrolled 'Secure Boot' \
			"the module for $1 is signed by \"$signer\", whose key is not enrolled, and $(refusal)" "$remedy"
	elif [ "$signed_only" = yes ]; then
		finding unknown signer-unknown 'Secure Boot' \
			"cannot tell whether the key of \"$signer\", who signed the module for $1, is enrolled" \
			"modprobe xt_TARPIT tells; if it is refused: $remedy"
	fi
}

# The certificate of the module of kernel $1 may have expired, which is said because it looks like a
# reason and is none: kernels look at no dates.
look_at_dates() {
	[ -r "$certificate" ] && have openssl || return 0
	end=$(openssl x509 -inform DER -in "$certificate" -noout -enddate 2>/dev/null) || return 0
	! openssl x509 -inform DER -in "$certificate" -noout -checkend 0 >/dev/null 2>&1 || return 0
	finding ok signer-expired 'Secure Boot' \
		"the certificate of \"$signer\", who signed the module for $1, expired: ${end#notAfter=}; kernels do not mind" \
		'newer packages will have another, to be enrolled as this one was'
}

# Kernels differ in whether they heed a list of revoked certificates; Debian's do not.
key_was_revoked() {
	what="the module for $1 is signed by \"$signer\", whose key was revoked"
	heeds=$(grep -o 'CONFIG_SYSTEM_REVOCATION_LIST\( is not set\|=y\)' "/boot/config-$1" 2>/dev/null)
	case $heeds in
	*' is not set')
		severity=warning
		what="$what, which this kernel does not look at: it loads the module"
		;;
	*=y) what="$what, and $(refusal)" ;;
	*)
		severity=unknown
		what="$what, and this kernel may refuse such modules"
		;;
	esac
	finding "$severity" signer-revoked 'Secure Boot' "$what" \
		'install packages that another key signed, or xt-tarpit-dkms, which signs with a key of this machine'
}

refusal() {
	case $signed_only in
	yes) echo 'this kernel refuses such modules' ;;
	*) echo 'this kernel may refuse such modules' ;;
	esac
}
