"""What was built, from what, and what was proven of it, signed for strangers.

::

    manifest.json, verify.json        what a build and a proof leave, in a folder of dist/
      └─ provenance, sbom, results    the same as SLSA provenance, CycloneDX, in-toto test result
           └─ envelope, keys          signed in DSSE envelopes, one file each
    check, repository, verdict        judged again by whoever has the public key

``documents`` names the files, ``strict`` reads JSON that nobody vouches for, ``package_set`` reads
a folder, ``make`` writes the attestations of one, ``outcome`` tells what was judged; ``reproduce``
makes a package set again and compares.
"""
