// SPDX-License-Identifier: GPL-2.0-only
/* 5.11: security_skb_classify_flow() takes flowi_common. Needs: flowi4 */
#include <linux/skbuff.h>
#include <net/flow.h>

static inline struct flowi_common *
probe_flowi4_to_flowi_common(struct flowi4 *fl4)
{
	return flowi4_to_flowi_common(fl4);
}
