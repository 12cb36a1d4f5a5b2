/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _TARPIT_COMPAT_H
#define _TARPIT_COMPAT_H

#include "tarpit-probes.h"

#ifndef TARPIT_HAVE_DST_DEV
static inline struct net_device *dst_dev(const struct dst_entry *dst)
{
	return dst->dev;
}
#endif

#ifndef TARPIT_HAVE_FLOWI4_L3MDEV
#define flowi4_l3mdev flowi4_oif
#define flowi6_l3mdev flowi6_oif
#endif

#ifndef TARPIT_HAVE_FLOWI4_TO_FLOWI_COMMON
#define flowi4_to_flowi_common flowi4_to_flowi
#define flowi6_to_flowi_common flowi6_to_flowi
#endif

#ifndef TARPIT_HAVE_SKB_CLOCK_REALTIME
#define SKB_CLOCK_REALTIME 0
#endif

#ifndef TARPIT_HAVE_SKB_SET_DELIVERY_TIME
#define skb_set_delivery_time(skb, kt, clock) ((skb)->tstamp = (kt))
#endif

/* Older nftables, when it traces, looks at a packet once more after the
 * verdict, stolen or not. Rules of iptables-legacy are safe.
 */
#ifdef TARPIT_HAVE_NFT_TRACEINFO
#define tarpit_can_steal() true
#define tarpit_note_caller(par) do { } while (0)
#else
static bool tarpit_under_nft __read_mostly;
#define tarpit_can_steal() (!READ_ONCE(tarpit_under_nft))

static inline void tarpit_note_caller(const struct xt_tgchk_param *par)
{
	if (par->nft_compat)
		WRITE_ONCE(tarpit_under_nft, true);
}
#endif

#if IS_ENABLED(CONFIG_BRIDGE_NETFILTER)
#define TARPIT_BRIDGE 1
#ifndef TARPIT_HAVE_NF_BRIDGE_GET_PHYSINDEV
#define nf_bridge_get_physindev(skb, net) nf_bridge_get_physindev(skb)
#endif
#endif

#endif /* _TARPIT_COMPAT_H */
