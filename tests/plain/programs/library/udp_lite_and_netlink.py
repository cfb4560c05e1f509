import socket

socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE).close()
print(socket.if_nametoindex("lo"), [name for _, name in socket.if_nameindex()][:1])
