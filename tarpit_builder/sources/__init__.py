"""Where kernels, headers and iptables come from; nothing leaves here unverified."""
