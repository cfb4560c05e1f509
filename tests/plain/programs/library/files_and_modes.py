import os
import stat

open("f", "w").close()
os.chmod("f", 0o640)
os.symlink("f", "link")
os.link("f", "hard")
print(stat.filemode(os.lstat("f").st_mode), os.readlink("link"), os.stat("f").st_nlink, sorted(os.listdir()))
os.mkdir("f")
