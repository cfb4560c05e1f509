exec("x = 7\nif x == 0: pass\n" + "".join(f"elif x == {n}: pass\n" for n in range(10, 1000)) + "else: print('else')")
