"""Prints a token made by the published Python package.

usage: python3 sign.py SDKAPPID KEY IDENTIFIER EXPIRE_SECONDS [USERBUF]
The package is looked for in PYTHONPATH.
"""

import sys

from TLSSigAPIv2 import TLSSigAPIv2

sdk_app_id, key, identifier, expire, *userbuf = sys.argv[1:]
signer = TLSSigAPIv2(int(sdk_app_id), key)
if userbuf:
    print(signer.gen_sig_with_userbuf(identifier, int(expire), userbuf[0].encode("utf-8")))
else:
    print(signer.gen_sig(identifier, int(expire)))
