/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _XT_TARPIT_H
#define _XT_TARPIT_H

#include <linux/types.h>

/* What the target does with a TCP connection: xt_tarpit_tginfo.variant */
enum {
	XT_TARPIT_TARPIT,	/* accept it, then hold it at window 0 */
	XT_TARPIT_HONEYPOT,	/* accept it and acknowledge what arrives */
	XT_TARPIT_RESET,	/* refuse it */
	XT_TARPIT_STALL,	/* accept it, take a windowful, hold it */
};

/* Revision 0, as iptables extensions have sent it since 2011. */
struct xt_tarpit_tginfo {
	__u8 variant;
};

/* Revision 1: --stall; begins like revision 0 */
struct xt_tarpit_tginfo_v1 {
	__u8 variant;
	__u8 reserved[7];	/* 0 */
};

#endif /* _XT_TARPIT_H */
