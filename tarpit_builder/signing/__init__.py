"""Modules signed for hosts with Secure Boot, as a step after the build.

::

    certificate        the public half: what kernels and shim take, and what users enroll
    signature          a detached CMS signature of a module, made by openssl or elsewhere
    sign               package sets in dist/ with signatures in their modules

The packages of a build are the same bytes whoever builds them; a signature would end that.  So a
signed package set lies beside the other, and both are told by their digests.  No build ever sees
the key: the kernel's own ``sign-file`` runs in a sealed container and gets finished signatures.
"""
