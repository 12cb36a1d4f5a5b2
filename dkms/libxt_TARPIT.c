// SPDX-License-Identifier: GPL-2.0-only
/*
 * The TARPIT target for iptables and ip6tables.
 */
#include <stdio.h>
#include <xtables.h>

#include "xt_TARPIT.h"

enum {
	O_TARPIT = 0,
	O_HONEYPOT,
	O_RESET,
	F_TARPIT = 1 << O_TARPIT,
	F_HONEYPOT = 1 << O_HONEYPOT,
	F_RESET = 1 << O_RESET,
};

static const struct xt_option_entry tarpit_tg_opts[] = {
	{
		.name = "tarpit", .id = O_TARPIT, .type = XTTYPE_NONE,
		.excl = F_HONEYPOT | F_RESET,
	},
	{
		.name = "honeypot", .id = O_HONEYPOT, .type = XTTYPE_NONE,
		.excl = F_TARPIT | F_RESET,
	},
	{
		.name = "reset", .id = O_RESET, .type = XTTYPE_NONE,
		.excl = F_TARPIT | F_HONEYPOT,
	},
	XTOPT_TABLEEND,
};

static void tarpit_tg_help(void)
{
	printf(
"TARPIT target options (one of):\n"
"  --tarpit      accept the connection and hold it at window 0 (default)\n"
"  --honeypot    accept the connection and acknowledge what arrives\n"
"  --reset       refuse the connection\n");
}

static void tarpit_tg_parse(struct xt_option_call *cb)
{
	struct xt_tarpit_tginfo *info = cb->data;

	xtables_option_parse(cb);
	switch (cb->entry->id) {
	case O_TARPIT:
		info->variant = XT_TARPIT_TARPIT;
		break;
	case O_HONEYPOT:
		info->variant = XT_TARPIT_HONEYPOT;
		break;
	case O_RESET:
		info->variant = XT_TARPIT_RESET;
		break;
	}
}

static void tarpit_tg_save(const void *ip, const struct xt_entry_target *target)
{
	const struct xt_tarpit_tginfo *info = (const void *)target->data;

	switch (info->variant) {
	case XT_TARPIT_TARPIT:
		printf(" --tarpit");
		break;
	case XT_TARPIT_HONEYPOT:
		printf(" --honeypot");
		break;
	case XT_TARPIT_RESET:
		printf(" --reset");
		break;
	}
}

static void tarpit_tg_print(const void *ip,
			    const struct xt_entry_target *target, int numeric)
{
	tarpit_tg_save(ip, target);
}

static struct xtables_target tarpit_tg_reg = {
	.version = XTABLES_VERSION,
	.name = "TARPIT",
	.revision = 0,
	.family = NFPROTO_UNSPEC,
	.size = XT_ALIGN(sizeof(struct xt_tarpit_tginfo)),
	.userspacesize = XT_ALIGN(sizeof(struct xt_tarpit_tginfo)),
	.help = tarpit_tg_help,
	.print = tarpit_tg_print,
	.save = tarpit_tg_save,
	.x6_parse = tarpit_tg_parse,
	.x6_options = tarpit_tg_opts,
};

static void __attribute__((constructor)) tarpit_tg_init(void)
{
	xtables_register_target(&tarpit_tg_reg);
}
