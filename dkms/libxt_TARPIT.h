/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the versions of iptables, as far as libxt_TARPIT.c
 * meets them.
 */
#ifndef _LIBXT_TARPIT_H
#define _LIBXT_TARPIT_H

/* 1.4.11: options are described by tables, and print functions put the space
 * before what they print instead of after it.
 */
#ifdef XTOPT_TABLEEND
#define TARPIT_X6 1
#define TARPIT_PRINT(option) " " option
#else
#define TARPIT_PRINT(option) option " "
#endif

/* 1.4.3 */
#ifdef xtables_error
#define tarpit_error xtables_error
#else
#define tarpit_error exit_error
#endif

/* 1.4.1: before, the whole program was one version. */
#ifndef XTABLES_VERSION
#define XTABLES_VERSION IPTABLES_VERSION
#endif

/* 1.4.0: the same structures for all families. */
#ifdef TARPIT_IPTABLES_1_3
#define xtables_target iptables_target
#define xtables_register_target register_target
#define TARPIT_CONST
typedef struct ipt_entry tarpit_entry_t;
typedef struct ipt_ip tarpit_ip_t;
#else
#define TARPIT_CONST const
typedef void tarpit_entry_t;
typedef void tarpit_ip_t;
#endif

/* Inside iptables' own tree _init is a macro that makes a constructor. */
#if !defined(_init) && !defined(TARPIT_IPTABLES_1_3)
#define _init __attribute__((constructor)) tarpit_tg_init
void tarpit_tg_init(void);
#endif

#endif /* _LIBXT_TARPIT_H */
