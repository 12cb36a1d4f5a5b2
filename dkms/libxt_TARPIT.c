// SPDX-License-Identifier: GPL-2.0-only
/*
 * The TARPIT target for iptables and ip6tables, 1.4.0 to today. For 1.3.8,
 * compile with -DTARPIT_IPTABLES_1_3 (IPv4) inside its source tree.
 */
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifdef TARPIT_IPTABLES_1_3
#include <iptables.h>
#else
#include <xtables.h>
#endif
#include <linux/netfilter_ipv4/ip_tables.h>
#ifndef TARPIT_IPTABLES_1_3
#include <linux/netfilter_ipv6/ip6_tables.h>
#endif

#include "xt_TARPIT.h"
#include "libxt_TARPIT.h"

static void tarpit_tg_help(void)
{
	printf(
"TARPIT target options (one of):\n"
"  --tarpit      accept the connection and hold it at window 0 (default)\n"
"  --honeypot    accept the connection and acknowledge what arrives\n"
"  --reset       refuse the connection\n"
"  --stall       accept the connection, take 64 kB, then hold it\n"
"Needs -p tcp; valid in INPUT and FORWARD of filter, mangle and security.\n");
}

/*
 * iptables tells an extension nothing about the rule around it until one of
 * the extension's own options comes by, and about chain and table not even
 * then. Without the following the user would be told "Invalid argument", and
 * have to look for the reason in the kernel's log. So look at the command
 * line itself; what cannot be made out there is left to the kernel. That is
 * nearly all that begins with "-" where an argument of a match's option may
 * stand, as in --string "-t nat": which of them have one, only the match
 * knows. The rules that iptables-restore reads are not on it, but those that
 * iptables-save wrote have a mode, so that at least their protocol is known.
 */
struct tarpit_command {
	const char *table;
	const char *chain;	/* of a rule to be inserted, else NULL */
	const char *protocol;
	bool protocol_inverted;
	bool protocol_unclear;
};

/* Is it the option, in whatever form? */
static bool tarpit_is_option(const char *arg, char letter, const char *name)
{
	size_t len;

	if (arg[0] != '-')
		return false;
	if (arg[1] != '-')
		return arg[1] == letter;

	len = strcspn(arg + 2, "=");
	return len >= 3 && strncmp(arg + 2, name, len) == 0;
}

/* The argument of option argv[*i], where *i then is. */
static const char *tarpit_argument(char **argv, int *i)
{
	const char *arg = argv[*i];
	const char *value;

	if (arg[1] != '-' && arg[2] != '\0')
		return arg + 2;
	value = arg[1] == '-' ? strchr(arg, '=') : NULL;
	if (value != NULL)
		return value + 1;
	return argv[*i + 1] != NULL ? argv[++*i] : NULL;
}

/* Options of which it is known that nothing follows, and all that has its
 * argument with it.
 */
static bool tarpit_stands_alone(const char *arg)
{
	static const char *const names[] = {
		"--tarpit", "--honeypot", "--reset", "--stall", "--syn",
	};
	unsigned int i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(arg, names[i]) == 0)
			return true;
	return arg[1] != '-' || strchr(arg, '=') != NULL;
}

/* Return false if it cannot be made out. */
static bool tarpit_read_command(struct tarpit_command *cmd, char **argv)
{
	/* the letters of iptables' own options that have an argument */
	static const char own[] = "sdiojgmcDNCEM";
	bool inverted = false, doubt = false;
	const char *arg;
	int i;

	memset(cmd, 0, sizeof(*cmd));
	for (i = 1; argv[0] != NULL && argv[i] != NULL; i++) {
		arg = argv[i];
		/* By now, iptables has blanked the "!" that it understood. */
		if (strcmp(arg, "!") == 0 || arg[0] == '\0') {
			if (doubt)
				return false;
			inverted = true;
			continue;
		}
		if (arg[0] != '-') {
			inverted = false;
			doubt = false;
			continue;
		}
		if (doubt)
			return false;

		if (tarpit_is_option(arg, 'A', "append") ||
		    tarpit_is_option(arg, 'I', "insert") ||
		    tarpit_is_option(arg, 'R', "replace")) {
			cmd->chain = tarpit_argument(argv, &i);
		} else if (tarpit_is_option(arg, 't', "table")) {
			cmd->table = tarpit_argument(argv, &i);
		} else if (tarpit_is_option(arg, 'p', "protocol")) {
			cmd->protocol = tarpit_argument(argv, &i);
			cmd->protocol_inverted = inverted;
		} else if (arg[1] != '-' && arg[1] != '\0' &&
			   strchr(own, arg[1]) != NULL) {
			tarpit_argument(argv, &i);
		} else if (tarpit_stands_alone(arg)) {
			/* perhaps several short options in one */
			if (arg[1] != '-' && strchr(arg, 'p') != NULL)
				cmd->protocol_unclear = true;
		} else {
			doubt = true;
		}
		inverted = false;
	}
	return true;
}

static bool tarpit_is_tcp(const char *protocol)
{
	const struct protoent *entry;
	unsigned long number;
	char *end;

	number = strtoul(protocol, &end, 0);
	if (end != protocol && *end == '\0')
		return number == IPPROTO_TCP;
	if (strcasecmp(protocol, "tcp") == 0)
		return true;
	/* A name that nobody knows iptables has complained about by now. It
	 * knows some without /etc/protocols, which we are not told of; of
	 * these only "tcp" is TCP.
	 */
	entry = getprotobyname(protocol);
	return entry != NULL && entry->p_proto == IPPROTO_TCP;
}

static void tarpit_check_command(char **argv, bool protocol_known)
{
	struct tarpit_command cmd;

	if (!tarpit_read_command(&cmd, argv) || cmd.chain == NULL)
		return;

	if (cmd.table != NULL && strcmp(cmd.table, "filter") != 0 &&
	    strcmp(cmd.table, "mangle") != 0 &&
	    strcmp(cmd.table, "security") != 0)
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: only valid in the filter, mangle and security tables, not in \"%s\"",
			     cmd.table);
	if (strcmp(cmd.chain, "OUTPUT") == 0 ||
	    strcmp(cmd.chain, "PREROUTING") == 0 ||
	    strcmp(cmd.chain, "POSTROUTING") == 0)
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: only valid in INPUT and FORWARD and the chains they call, not in %s",
			     cmd.chain);

	if (protocol_known || cmd.protocol_unclear)
		return;
	if (cmd.protocol == NULL)
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: answers TCP only: the rule needs \"-p tcp\"");
	if (cmd.protocol_inverted || !tarpit_is_tcp(cmd.protocol))
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: answers TCP only: the rule needs \"-p tcp\", not \"%s-p %s\"",
			     cmd.protocol_inverted ? "! " : "", cmd.protocol);
}

/* The rule that is being parsed, if one of our options told us */
static const void *tarpit_rule;

static void tarpit_check(bool protocol_known)
{
	char text[16384], *argv[1024];
	size_t len, argc = 0;
	char *arg;
	FILE *file;

	file = fopen("/proc/self/cmdline", "r");
	if (file == NULL)
		return;
	len = fread(text, 1, sizeof(text), file);
	fclose(file);
	if (len == 0 || len == sizeof(text))
		return;

	text[len] = '\0';
	for (arg = text; arg < text + len; arg += strlen(arg) + 1) {
		if (argc == sizeof(argv) / sizeof(*argv) - 1)
			return;
		argv[argc++] = arg;
	}
	argv[argc] = NULL;
	tarpit_check_command(argv, protocol_known);
}

static void tarpit_check_protocol(unsigned int proto, bool inverted)
{
	if (proto != IPPROTO_TCP || inverted)
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: answers TCP only: the rule needs \"-p tcp\"");
}

static void tarpit_check4(void)
{
	const struct ipt_entry *e = tarpit_rule;

	tarpit_rule = NULL;
	tarpit_check(e != NULL);
	if (e != NULL)
		tarpit_check_protocol(e->ip.proto,
				      e->ip.invflags & IPT_INV_PROTO);
}

#ifndef TARPIT_IPTABLES_1_3
static void tarpit_check6(void)
{
	const struct ip6t_entry *e = tarpit_rule;

	tarpit_rule = NULL;
	tarpit_check(e != NULL);
	if (e != NULL)
		tarpit_check_protocol(e->ipv6.proto,
				      e->ipv6.invflags & IP6T_INV_PROTO);
}
#endif

#ifdef TARPIT_X6
#define TARPIT_MODE(mode, id_) { \
	.name = mode, .id = id_, .type = XTTYPE_NONE, \
	.excl = (1 << (XT_TARPIT_STALL + 1)) - 1 - (1 << (id_)), \
}

/* Revision 0 is without the last. */
static const struct xt_option_entry tarpit_tg_v0_opts[] = {
	TARPIT_MODE("tarpit", XT_TARPIT_TARPIT),
	TARPIT_MODE("honeypot", XT_TARPIT_HONEYPOT),
	TARPIT_MODE("reset", XT_TARPIT_RESET),
	XTOPT_TABLEEND,
};

static const struct xt_option_entry tarpit_tg_v1_opts[] = {
	TARPIT_MODE("tarpit", XT_TARPIT_TARPIT),
	TARPIT_MODE("honeypot", XT_TARPIT_HONEYPOT),
	TARPIT_MODE("reset", XT_TARPIT_RESET),
	TARPIT_MODE("stall", XT_TARPIT_STALL),
	XTOPT_TABLEEND,
};

static void tarpit_tg_parse(struct xt_option_call *cb)
{
	struct xt_tarpit_tginfo *info = cb->data;

	xtables_option_parse(cb);
	info->variant = cb->entry->id;
	tarpit_rule = cb->xt_entry;
}

static void tarpit_tg_check4(struct xt_fcheck_call *cb)
{
	tarpit_check4();
}

static void tarpit_tg_check6(struct xt_fcheck_call *cb)
{
	tarpit_check6();
}
#else
/* Revision 0 is without the last. */
static TARPIT_CONST struct option tarpit_tg_v0_opts[] = {
	{ "tarpit", no_argument, NULL, XT_TARPIT_TARPIT },
	{ "honeypot", no_argument, NULL, XT_TARPIT_HONEYPOT },
	{ "reset", no_argument, NULL, XT_TARPIT_RESET },
	{ NULL, 0, NULL, 0 },
};

static TARPIT_CONST struct option tarpit_tg_v1_opts[] = {
	{ "tarpit", no_argument, NULL, XT_TARPIT_TARPIT },
	{ "honeypot", no_argument, NULL, XT_TARPIT_HONEYPOT },
	{ "reset", no_argument, NULL, XT_TARPIT_RESET },
	{ "stall", no_argument, NULL, XT_TARPIT_STALL },
	{ NULL, 0, NULL, 0 },
};

static int tarpit_tg_parse(int c, char **argv, int invert,
			   unsigned int *flags, const tarpit_entry_t *entry,
			   struct xt_entry_target **target)
{
	struct xt_tarpit_tginfo *info = (void *)(*target)->data;

	if (c < XT_TARPIT_TARPIT || c > XT_TARPIT_STALL)
		return 0;

	if (invert)
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: option \"--%s\" cannot be inverted",
			     tarpit_tg_v1_opts[c].name);
	if (*flags & 1 << c)
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: option \"--%s\" can only be used once",
			     tarpit_tg_v1_opts[c].name);
	if (*flags != 0)
		tarpit_error(PARAMETER_PROBLEM,
			     "TARPIT: option \"--%s\" cannot be used together with \"--%s\"",
			     tarpit_tg_v1_opts[c].name,
			     tarpit_tg_v1_opts[info->variant].name);

	*flags |= 1 << c;
	info->variant = c;
	tarpit_rule = entry;
	return 1;
}

static void tarpit_tg_check4(unsigned int flags)
{
	tarpit_check4();
}

#ifndef TARPIT_IPTABLES_1_3
static void tarpit_tg_check6(unsigned int flags)
{
	tarpit_check6();
}

/*
 * ip6tables 1.4.0 has chosen this revision, and does not say so to the kernel,
 * which compares sizes: on i386 they differ.
 */
static void tarpit_tg_init6(struct xt_entry_target *target)
{
	target->u.user.revision = 1;
}
#endif
#endif

static void tarpit_tg_save(const tarpit_ip_t *ip,
			   const struct xt_entry_target *target)
{
	const struct xt_tarpit_tginfo *info = (const void *)target->data;

	switch (info->variant) {
	case XT_TARPIT_TARPIT:
		printf(TARPIT_PRINT("--tarpit"));
		break;
	case XT_TARPIT_HONEYPOT:
		printf(TARPIT_PRINT("--honeypot"));
		break;
	case XT_TARPIT_RESET:
		printf(TARPIT_PRINT("--reset"));
		break;
	case XT_TARPIT_STALL:
		printf(TARPIT_PRINT("--stall"));
		break;
	}
}

static void tarpit_tg_print(const tarpit_ip_t *ip,
			    const struct xt_entry_target *target, int numeric)
{
	tarpit_tg_save(ip, target);
}

static struct xtables_target tarpit_tg4_v0_reg = {
	.version = XTABLES_VERSION,
	.name = "TARPIT",
	.revision = 0,
#ifndef TARPIT_IPTABLES_1_3
	.family = AF_INET,
#endif
	.size = XT_ALIGN(sizeof(struct xt_tarpit_tginfo)),
	.userspacesize = XT_ALIGN(sizeof(struct xt_tarpit_tginfo)),
	.help = tarpit_tg_help,
#ifdef TARPIT_X6
	.x6_parse = tarpit_tg_parse,
	.x6_fcheck = tarpit_tg_check4,
	.x6_options = tarpit_tg_v0_opts,
#else
	.parse = tarpit_tg_parse,
	.final_check = tarpit_tg_check4,
	.extra_opts = tarpit_tg_v0_opts,
#endif
	.print = tarpit_tg_print,
	.save = tarpit_tg_save,
};

static struct xtables_target tarpit_tg4_v1_reg = {
	.version = XTABLES_VERSION,
	.name = "TARPIT",
	.revision = 1,
#ifndef TARPIT_IPTABLES_1_3
	.family = AF_INET,
#endif
	.size = XT_ALIGN(sizeof(struct xt_tarpit_tginfo_v1)),
	.userspacesize = XT_ALIGN(sizeof(struct xt_tarpit_tginfo_v1)),
	.help = tarpit_tg_help,
#ifdef TARPIT_X6
	.x6_parse = tarpit_tg_parse,
	.x6_fcheck = tarpit_tg_check4,
	.x6_options = tarpit_tg_v1_opts,
#else
	.parse = tarpit_tg_parse,
	.final_check = tarpit_tg_check4,
	.extra_opts = tarpit_tg_v1_opts,
#endif
	.print = tarpit_tg_print,
	.save = tarpit_tg_save,
};

#ifndef TARPIT_IPTABLES_1_3
static struct xtables_target tarpit_tg6_v0_reg = {
	.version = XTABLES_VERSION,
	.name = "TARPIT",
	.revision = 0,
	.family = AF_INET6,
	.size = XT_ALIGN(sizeof(struct xt_tarpit_tginfo)),
	.userspacesize = XT_ALIGN(sizeof(struct xt_tarpit_tginfo)),
	.help = tarpit_tg_help,
#ifdef TARPIT_X6
	.x6_parse = tarpit_tg_parse,
	.x6_fcheck = tarpit_tg_check6,
	.x6_options = tarpit_tg_v0_opts,
#else
	.parse = tarpit_tg_parse,
	.final_check = tarpit_tg_check6,
	.extra_opts = tarpit_tg_v0_opts,
#endif
	.print = tarpit_tg_print,
	.save = tarpit_tg_save,
};

static struct xtables_target tarpit_tg6_v1_reg = {
	.version = XTABLES_VERSION,
	.name = "TARPIT",
	.revision = 1,
	.family = AF_INET6,
	.size = XT_ALIGN(sizeof(struct xt_tarpit_tginfo_v1)),
	.userspacesize = XT_ALIGN(sizeof(struct xt_tarpit_tginfo_v1)),
	.help = tarpit_tg_help,
#ifdef TARPIT_X6
	.x6_parse = tarpit_tg_parse,
	.x6_fcheck = tarpit_tg_check6,
	.x6_options = tarpit_tg_v1_opts,
#else
	.init = tarpit_tg_init6,
	.parse = tarpit_tg_parse,
	.final_check = tarpit_tg_check6,
	.extra_opts = tarpit_tg_v1_opts,
#endif
	.print = tarpit_tg_print,
	.save = tarpit_tg_save,
};
#endif

/* iptables takes the last revision that the kernel has. */
void _init(void)
{
	xtables_register_target(&tarpit_tg4_v0_reg);
	xtables_register_target(&tarpit_tg4_v1_reg);
#ifndef TARPIT_IPTABLES_1_3
	xtables_register_target(&tarpit_tg6_v0_reg);
	xtables_register_target(&tarpit_tg6_v1_reg);
#endif
}
