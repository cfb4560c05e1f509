import os
import shutil

os.makedirs("d/e")
open("d/e/f", "w").write("x")
shutil.copytree("d", "copy")
shutil.move("copy", "moved")
print(sorted(os.walk("moved")))
shutil.rmtree("moved")
print(os.path.exists("moved"), shutil.make_archive("arch", "zip", "d"))
