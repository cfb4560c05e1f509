import types, sys
m = sys.modules['m'] = types.ModuleType('m')
m.f = open(1, 'w', closefd=False); m.f.write('x\n')
