/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The target's entry points, for kernels that call them in another way than
 * xt_TARPIT.c defines them: before 2.6.35 for the check of a rule, before
 * 2.6.28 for a packet. Included once, after the definitions.
 */

#ifndef TARPIT_HAVE_XT_TGCHK_PARAM
#ifdef TARPIT_HAVE_XT_TARGET_TAKES_SKB
static unsigned int
tarpit_entry4(struct sk_buff *skb, const struct net_device *in,
	      const struct net_device *out, unsigned int hooknum,
	      const struct xt_target *target, const void *targinfo)
{
	const struct xt_action_param par = {
		.in = in, .hooknum = hooknum, .targinfo = targinfo,
	};

	return tarpit_tg4(skb, &par);
}

#ifdef TARPIT_IPV6
static unsigned int
tarpit_entry6(struct sk_buff *skb, const struct net_device *in,
	      const struct net_device *out, unsigned int hooknum,
	      const struct xt_target *target, const void *targinfo)
{
	const struct xt_action_param par = {
		.in = in, .hooknum = hooknum, .targinfo = targinfo,
	};

	return tarpit_tg6(skb, &par);
}
#endif
#else
static unsigned int
tarpit_entry4(struct sk_buff **pskb, const struct net_device *in,
	      const struct net_device *out, unsigned int hooknum,
	      const struct xt_target *target, const void *targinfo)
{
	const struct xt_action_param par = {
		.in = in, .hooknum = hooknum, .targinfo = targinfo,
	};

	return tarpit_tg4(*pskb, &par);
}

#ifdef TARPIT_IPV6
static unsigned int
tarpit_entry6(struct sk_buff **pskb, const struct net_device *in,
	      const struct net_device *out, unsigned int hooknum,
	      const struct xt_target *target, const void *targinfo)
{
	const struct xt_action_param par = {
		.in = in, .hooknum = hooknum, .targinfo = targinfo,
	};

	return tarpit_tg6(*pskb, &par);
}
#endif
#endif

#define tarpit_tg4 tarpit_entry4
#define tarpit_tg6 tarpit_entry6

#ifdef TARPIT_HAVE_XT_CHECK_RETURNS_BOOL
#define tarpit_check_t bool
#else
#define tarpit_check_t int
#endif

static tarpit_check_t
tarpit_entry_check(const char *table, const void *entry,
		   const struct xt_target *target, void *targinfo,
		   unsigned int hook_mask)
{
	const struct xt_tgchk_param par = {
		.table = table, .entryinfo = entry, .target = target,
		.targinfo = targinfo,
	};

	return tarpit_check(&par) == 0;
}

#ifdef TARPIT_IPV6
static tarpit_check_t
tarpit_entry_check6(const char *table, const void *entry,
		    const struct xt_target *target, void *targinfo,
		    unsigned int hook_mask)
{
	const struct xt_tgchk_param par = {
		.table = table, .entryinfo = entry, .target = target,
		.targinfo = targinfo,
	};

	return tarpit_check6(&par) == 0;
}
#endif

#define tarpit_check tarpit_entry_check
#define tarpit_check6 tarpit_entry_check6

#elif !defined(TARPIT_HAVE_XT_CHECK_RETURNS_ERRNO)
static bool tarpit_entry_check(const struct xt_tgchk_param *par)
{
	return tarpit_check(par) == 0;
}

#ifdef TARPIT_IPV6
static bool tarpit_entry_check6(const struct xt_tgchk_param *par)
{
	return tarpit_check6(par) == 0;
}
#endif

#define tarpit_check tarpit_entry_check
#define tarpit_check6 tarpit_entry_check6
#endif
