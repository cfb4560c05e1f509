import io
import tarfile
import zipfile

with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("x.txt", "content" * 100)
print(zipfile.ZipFile("a.zip").namelist(), zipfile.is_zipfile("a.zip"))
with tarfile.open("a.tar.gz", "w:gz") as tar:
    tar.add("a.zip")
print(tarfile.open("a.tar.gz").getnames())
