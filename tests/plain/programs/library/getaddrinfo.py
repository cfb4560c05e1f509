import socket

print(sorted({each[4][0] for each in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}))
print(socket.getservbyname("http"), socket.getservbyport(443))
try:
    socket.getaddrinfo("no.such.host.invalid", 80)
except socket.gaierror as error:
    print(type(error).__name__)
