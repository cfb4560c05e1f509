import socket

s = socket.create_server(("::1", 0), family=socket.AF_INET6)
print(s.getsockname()[0], socket.has_ipv6, socket.has_dualstack_ipv6())
