// SPDX-License-Identifier: GPL-2.0-only
/* 5.14: what a bridge's port makes of a VLAN; as if it can be asked where
 * bridges do not filter
 */
#include <linux/skbuff.h>
#include <linux/if_bridge.h>

#ifdef CONFIG_BRIDGE_VLAN_FILTERING
static inline int probe_br_vlan_get_info_rcu(const struct net_device *port,
					     struct bridge_vlan_info *info)
{
	return br_vlan_get_info_rcu(port, 1, info);
}
#endif
