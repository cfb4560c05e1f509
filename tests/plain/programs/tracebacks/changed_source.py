open(__file__, "w").write("\n" * 20 + "# changed\n")
1 / 0
