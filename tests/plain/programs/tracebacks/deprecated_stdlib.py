# /// plain
# python = "<3.12"
# ///
import imp

print(imp.get_tag()[:7])
