import hashlib
import hmac
import secrets

print(hashlib.sha256(b"x").hexdigest()[:16], hmac.new(b"k", b"m", "sha1").hexdigest()[:8], len(secrets.token_hex(8)))
hashlib.new("no-such-hash")
