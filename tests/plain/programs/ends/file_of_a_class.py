class O: f = open(1, 'w', closefd=False)
O.f.write('x\n')
