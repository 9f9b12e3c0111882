"""The lab's own certificate authority: who may talk to the broker, and as whom. See docs/security.md.

A folder holds it: ``ca.pem`` and ``ca.key``, and for every identity ``NAME.pem`` and ``NAME.key``. The certificates are
the only record; there is no index beside them that could say something else.
"""
