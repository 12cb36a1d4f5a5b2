"""The packages: what they are, once, and the two forms that they come in.

``contents`` says what is in them and who answers for them, ``changelog`` which release it is;
``modern`` writes source packages for a suite's own tools, ``period`` and ``deb`` the packages that
a dpkg of 2007 reads.
"""
