"""A jail for fail2ban that tests fill themselves: who fails three times in its log is banned."""

JAIL = """\
[sshd]
enabled = false
[probe]
enabled = true
backend = polling
filter = probe
logpath = /var/log/probe.log
maxretry = 3
bantime = 1h
"""
FILTER = r"""
[Definition]
failregex = ^ failed login from <HOST>$
datepattern = {^LN-BEG}EPOCH
"""
