# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-only
# For each installed kernel: the module, the headers, what DKMS made of it, and whether a package
# sees to it that the next kernel gets the module too.

DKMS_TREE=/var/lib/dkms/xt-tarpit
OURS='Xtables: accept TCP connections and hold them (TARPIT)'

# $kernels: the installed ones, oldest first; a removed kernel may leave a folder, but no index.
# The running one is listed in any case, unless a container or chroot has it from its host.
list_kernels() {
	kernels=$(
		{
			for index in /lib/modules/*/modules.builtin /boot/vmlinuz-*; do
				[ -e "$index" ] || continue
				index=${index%/modules.builtin}
				index=${index#/boot/vmlinuz-}
				printf '%s\n' "${index##*/}"
			done
			if [ -z "$contained" ] || [ -e "/lib/modules/$running/modules.dep" ]; then
				printf '%s\n' "$running"
			fi
		} | sort -u -V
	)
}

look_at_kernels() {
	list_kernels
	newest=${kernels##*"$newline"}
	age=older
	case $newline$kernels$newline in
	*"$newline$running$newline"*) ;;
	*) age=other ;;
	esac
	if [ -n "$only" ]; then
		case $newline$kernels$newline in
		*"$newline$only$newline"*) look_at_kernel "$only" chosen ;;
		*)
			finding unknown kernel-not-installed "kernel $only" "kernel $only is not installed" \
				"ls /lib/modules shows the installed ones"
			;;
		esac
	else
		[ -n "$kernels" ] || return 0
		while read -r kernel; do
			[ "$kernel" != "$running" ] || age=running
			[ "$age" != other ] || [ "$kernel" != "$newest" ] || age=newer
			look_at_kernel "$kernel" "$age"
			[ "$age" != running ] || age=newer
		done <<-EOT
		$kernels
		EOT
	fi
	look_at_followers
}

# look_at_kernel VERSION running|newer|older|other|chosen
look_at_kernel() {
	kernel=$1
	look_at_module "$kernel"
	headers=no
	if [ -e "/lib/modules/$kernel/build/Makefile" ] || [ -e "/usr/src/linux-headers-$kernel/Makefile" ]; then
		headers=yes
	fi
	look_at_dkms "$kernel"
	is_running=no
	[ "$kernel" != "$running" ] || is_running=yes
	is_newest=no
	[ "$kernel" != "$newest" ] || is_newest=yes
	record kernel "$kernel" "$is_running" "$is_newest" "$module" "$origin" "$module_version" \
		"$srcversion" "$signer" "$headers" "$dkms" "$device_module"
	if [ "$is_running" = yes ]; then
		running_module=$module
		running_origin=$origin
		running_srcversion=$srcversion
		running_version=$module_version
	fi
	case $origin in
	none) kernel_has_no_module "$kernel" "$2" ;;
	unknown)
		finding unknown module-unknown "kernel $kernel" "cannot tell whether $kernel has the module" \
			'apt install kmod, whose modinfo tells'
		;;
	xtables-addons | other) kernel_has_another "$kernel" "$2" ;;
	esac
	case $2-$origin in
	older-* | other-* | *-none | *-unknown | *-builtin) ;;
	*) look_at_signature "$kernel" ;;
	esac
	case $2-$origin-$device_module in
	older-* | other-* | *-none-* | *-yes | *-unknown) ;;
	*)
		[ -z "$devices" ] ||
			finding warning device-module-missing "kernel $kernel" \
				"$kernel has no module of the device:$devices cannot be made there" \
				'the device needs Linux 4.12, and packages of this version: tarpit(4)'
		;;
	esac
}

# The file that modprobe would load, and what it says of itself: $module, $origin (prebuilt, dkms,
# local, xtables-addons, other, builtin, none or unknown), $module_version, $srcversion, $signer,
# $sig_key; $device_module: whether there is that of tarpit(4), too.
look_at_module() {
	module='' origin=none module_version='' srcversion='' signer='' sig_key='' description=''
	device_module=unknown
	if ! have modinfo; then
		origin=unknown
		return 0
	fi
	device_module=no
	! modinfo -k "$1" -F filename tarpit >/dev/null 2>&1 || device_module=yes
	told=$(modinfo -k "$1" xt_TARPIT 2>/dev/null) || return 0
	while IFS= read -r line; do
		key=${line%%:*}
		value=${line#*:}
		value=${value#"${value%%[! ]*}"}
		case $key in
		filename) module=$value ;;
		version) module_version=$value ;;
		description) description=$value ;;
		srcversion) srcversion=$value ;;
		signer) signer=$value ;;
		sig_key) sig_key=$value ;;
		esac
	done <<-EOT
	$told
	EOT
	case $module in
	'') return 0 ;;
	'(builtin)') origin=builtin ;;
	*/updates/xt-tarpit/*) origin=prebuilt ;;
	*/updates/dkms/xt-TARPIT.ko*) origin=dkms ;;
	*/updates/dkms/xt_TARPIT.ko*) origin=xtables-addons ;;
	*)
		origin=other
		[ "$description" != "$OURS" ] || origin=local
		;;
	esac
}

# $dkms: absent, none, built, installed, failed; $dkms_release and $dkms_log.  Its folders are read
# because "dkms status" takes longer than all the rest.
look_at_dkms() {
	dkms=absent dkms_release='' dkms_log=''
	[ -d "$DKMS_TREE" ] || return 0
	dkms=none
	for folder in "$DKMS_TREE"/*; do
		[ ! -e "$folder/source" ] || dkms_release=${folder##*/}
		for built in "$folder/$1"/*/module; do
			[ ! -d "$built" ] || dkms=built
		done
		log=$folder/build/make.log
		if [ "$dkms" = none ] && [ -r "$log" ] && grep -q -F -e "for kernel $1 " "$log"; then
			dkms=failed
			dkms_log=$log
		fi
	done
	for link in "$DKMS_TREE/kernel-$1"-*; do
		[ ! -L "$link" ] || dkms=installed
	done
}

# The metapackage that brings the headers of the kernels that come with image $1, if there is one.
headers_follow() {
	while read -r meta image; do
		if [ "$image" = "linux-image-$1" ]; then
			echo "linux-headers-${meta#linux-image-}"
			return 0
		fi
	done <<-EOT
	$follows
	EOT
}

# A missing module is as bad as the use that is made of it; an older kernel is nobody's concern
# unless it is booted.
kernel_has_no_module() {
	severity=warning
	[ "$in_use" = no ] || severity=critical
	case $2 in
	running) what="the running kernel $1 has no module" ;;
	older | other)
		severity=ok
		what="$1, an older kernel, has no module"
		[ "$2" = older ] || what="$1 has no module"
		;;
	newer)
		what="$1, newer than the running kernel, has no module"
		[ "$1" != "$newest" ] || what="the newest kernel, $1, has no module"
		;;
	*) what="$1 has no module" ;;
	esac
	lost=
	for file in "/lib/modules/$1"/updates/xt-tarpit/xt_TARPIT.ko* \
		"/lib/modules/$1"/updates/dkms/xt-TARPIT.ko*; do
		[ ! -e "$file" ] || lost=$file
	done
	if [ "$2" = running ] && ! [ -e "/lib/modules/$1" ]; then
		finding "$severity" kernel-gone "kernel $1" \
			"the running kernel $1 has no modules here: its package was removed" \
			'reboot into an installed kernel'
	elif [ -n "$lost" ]; then
		finding "$severity" module-not-indexed "kernel $1" "$what: the index does not list $lost" \
			"depmod $1"
	elif [ "$dkms" = failed ]; then
		finding "$severity" dkms-failed "kernel $1" "$what: DKMS failed to build it" \
			"the reason is in $dkms_log; then: dkms install xt-tarpit/$dkms_release -k $1"
	elif [ "$dkms" = built ]; then
		finding "$severity" dkms-not-installed "kernel $1" "$what: DKMS built it, but did not install it" \
			"dkms install xt-tarpit/$dkms_release -k $1"
	elif [ "$dkms" = none ] && [ "$headers" = no ]; then
		meta=$(headers_follow "$1")
		if [ -z "$meta" ] || installed "$meta"; then meta=; fi
		finding "$severity" headers-missing "kernel $1" "$what: DKMS lacks its headers" \
			"apt install linux-headers-$1${meta:+ $meta}"
	elif [ "$dkms" = none ]; then
		finding "$severity" dkms-not-built "kernel $1" "$what: DKMS did not build it" \
			"dkms install xt-tarpit/$dkms_release -k $1, which says why if it cannot"
	else
		finding "$severity" module-missing "kernel $1" "$what: no package of it is installed" \
			"apt install xt-tarpit-modules-$1, or xt-tarpit-dkms linux-headers-$1"
	fi
}

# Another xt_TARPIT is what modprobe would load.
kernel_has_another() {
	severity=warning
	case $2 in
	older | other) severity=ok ;;
	esac
	for file in "/lib/modules/$1"/updates/xt-tarpit/xt_TARPIT.ko* \
		"/lib/modules/$1"/updates/dkms/xt-TARPIT.ko*; do
		[ -e "$file" ] || continue
		if [ -e /lib/depmod.d/xt-tarpit.conf ]; then
			remedy="depmod $1"
		else
			remedy="apt install --reinstall xt-tarpit-common; depmod $1"
		fi
		finding "$severity" another-module-wins "kernel $1" \
			"modprobe loads $module instead of $file" "$remedy"
		return 0
	done
	case $dkms-$headers in
	none-no) remedy="apt install linux-headers-$1" ;;
	failed-*) remedy="the reason is in $dkms_log; then: dkms install xt-tarpit/$dkms_release -k $1" ;;
	none-* | built-*) remedy="dkms install xt-tarpit/$dkms_release -k $1" ;;
	*) remedy="apt install xt-tarpit-modules-$1, or xt-tarpit-dkms linux-headers-$1" ;;
	esac
	finding "$severity" another-module "kernel $1" \
		"$1 has only the TARPIT of another package, $module" "$remedy"
}

# The image's metapackage brings new kernels; something has to bring the module, or what DKMS
# needs to make it.
look_at_followers() {
	[ "$dpkg" = yes ] || return 0
	while read -r meta image; do
		flavour=${meta#linux-image-}
		[ -n "$image" ] || continue
		[ -z "$only" ] || [ "$image" = "linux-image-$only" ] || continue
		if installed xt-tarpit-dkms; then
			follower=linux-headers-$flavour
			remedy="apt install $follower"
			code='headers-not-followed'
		elif installed "xt-tarpit-modules-backports-${flavour#[0-9]*-}"; then
			continue
		else
			# Of linux-image-6.12-cloud-amd64 too, which backports have.
			follower=xt-tarpit-modules-${flavour#[0-9]*-}
			remedy="apt install $follower, or xt-tarpit-dkms linux-headers-$flavour"
			code='modules-not-followed'
			# Nothing of ours is there: that is said of the kernels themselves.
			case $packages in
			*xt-tarpit-modules-*) ;;
			*) continue ;;
			esac
		fi
		if installed "$follower"; then
			flag followers "$meta" yes
		else
			flag followers "$meta" no
			finding warning "$code" upgrades \
				"the next kernel that $meta brings will have no module: $follower is not installed" \
				"$remedy"
		fi
	done <<-EOT
	$follows
	EOT
}
