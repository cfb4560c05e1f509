import socket

a, b = socket.socketpair()
a.send(b"x")
print(b.recv(1), a.family.name)
s = socket.socket(socket.AF_UNIX)
s.bind("sock")
s.listen()
print(s.getsockname())
