// SPDX-License-Identifier: GPL-2.0-only
/* 5.16: what becomes of packets without a policy can be set; as if it can
 * where there is no IPsec. Needs: xfrm net XFRM_USERPOLICY_BLOCK subscripted
 */
#include <linux/skbuff.h>
#ifdef CONFIG_XFRM
#include <net/xfrm.h>

static inline int probe_xfrm_policy_default(const struct net *net)
{
	return net->xfrm.policy_default[XFRM_POLICY_OUT] ==
	       XFRM_USERPOLICY_BLOCK;
}
#endif
