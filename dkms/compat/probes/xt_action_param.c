// SPDX-License-Identifier: GPL-2.0-only
/* 2.6.35: takes the place of xt_target_param */
#include <linux/skbuff.h>
#include <linux/netfilter/x_tables.h>

static inline unsigned int probe_xt_action_param(void)
{
	return sizeof(struct xt_action_param);
}
