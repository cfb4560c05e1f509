import sqlite3

db = sqlite3.connect("data.db")
db.execute("create table t (id integer primary key, name text)")
db.executemany("insert into t (name) values (?)", [("ada",), ("grace",)])
db.commit()
print(db.execute("select * from t order by name desc").fetchall())
db.execute("select * from missing")
