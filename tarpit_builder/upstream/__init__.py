"""Building for releases of kernel.org: a kernel's tree, a toolchain layer, packages of that age."""
