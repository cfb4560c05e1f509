import grp
import os
import pwd

me = pwd.getpwuid(os.getuid())
print(me.pw_name, me.pw_dir, me.pw_shell, pwd.getpwnam("root").pw_uid)
print(grp.getgrgid(0).gr_name)
