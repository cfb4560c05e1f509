import site

print(site.ENABLE_USER_SITE, site.getsitepackages(), site.getusersitepackages(), site.PREFIXES)
