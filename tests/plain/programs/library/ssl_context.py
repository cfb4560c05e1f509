import ssl

context = ssl.create_default_context()
print(context.check_hostname, context.verify_mode.name, ssl.HAS_TLSv1_3)
