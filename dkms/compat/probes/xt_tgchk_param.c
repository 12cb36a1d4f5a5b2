// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.28: arguments of a target come in structures */
#include <linux/skbuff.h>
#include <linux/netfilter/x_tables.h>

static inline unsigned int probe_xt_tgchk_param(void)
{
	return sizeof(struct xt_tgchk_param);
}
