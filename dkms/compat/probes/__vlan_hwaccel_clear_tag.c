// SPDX-License-Identifier: GPL-2.0-only
/* 5.0: the presence of a VLAN tag is no bit of the tag */
#include <linux/skbuff.h>
#include <linux/if_vlan.h>

static inline void probe___vlan_hwaccel_clear_tag(struct sk_buff *skb)
{
	__vlan_hwaccel_clear_tag(skb);
}
