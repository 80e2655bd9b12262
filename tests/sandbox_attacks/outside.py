"""Programs that reach for the network and for files."""

from .attack import Attack

ATTACKS = [
    Attack(
        name="tcp to the host's loopback",
        code="""
import socket
for host in ("127.0.0.1", "localhost", "0.0.0.0"):
    attempt(host, socket.create_connection, (host, FACTS["tcp"]), 1)
print("held")
""",
    ),
    Attack(
        name="tcp over IPv6",
        code="""
import socket
attempt("::1", socket.create_connection, ("::1", FACTS["tcp6"]), 1)
print("held")
""",
    ),
    Attack(
        name="udp to the host's loopback",
        code="""
import socket
def send():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ("127.0.0.1", FACTS["udp"]))
attempt("udp", send)
print("held")
""",
    ),
    Attack(
        name="sockets of every family and type",
        code="""
import socket
for family in range(64):
    for kind in (1, 2, 3, 4, 5, 6, 10):
        attempt(("socket", family, kind), socket.socket, family, kind)
    if family != 1:
        attempt(("socketpair", family), socket.socketpair, family)
print("held")
""",
    ),
    Attack(
        name="abstract unix sockets",
        code="""
import socket
def reach():
    socket.socket(socket.AF_UNIX).connect(FACTS["unix"])
attempt("connect", reach)
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    attempt("connect a pair", left.connect, FACTS["unix"])
    attempt("send from a pair", left.sendto, b"out", FACTS["unix"])
    attempt("bind a pair", left.bind, chr(0) + "here")
    attempt("listen", left.listen)
print("held")
""",
    ),
    Attack(
        name="descriptors over a socket pair",
        code="""
import socket
left, right = socket.socketpair()
attempt("send_fds", socket.send_fds, left, [b"x"], [0])
attempt("recv_fds", socket.recv_fds, right, 1, 1, socket.MSG_DONTWAIT)
attempt("recvmsg", right.recvmsg, 1, 100, socket.MSG_DONTWAIT)
left.send(b"only bytes")
assert right.recv(20) == b"only bytes"
print("held")
""",
    ),
    Attack(
        name="servers and higher clients",
        code="""
import asyncio, socket, urllib.request
attempt("server", socket.create_server, ("127.0.0.1", 0))
attempt("url", urllib.request.urlopen, f"http://127.0.0.1:{FACTS['tcp']}", timeout=1)
attempt("asyncio", asyncio.run, asyncio.wait_for(asyncio.open_connection("127.0.0.1", FACTS["tcp"]), 1))
attempt("name", socket.gethostbyname, "localhost.localdomain")
print("held")
""",
    ),
    Attack(
        name="socket calls by number",
        x86_64=True,
        code="""
calls("socket=41 connect=42 accept=43 sendmsg=46 recvmsg=47 bind=49 listen=50 getsockname=51 setsockopt=54 "
      "accept4=288 recvmmsg=299 sendmmsg=307", 2, 1, 0)
print("held")
""",
    ),
    Attack(
        name="files of the host",
        code="""
paths = ["/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/resolv.conf",
         "/root/.bashrc", "/root/.ssh/id_rsa", "/var/lib/dpkg/status", "/boot", "/sys/kernel/notes",
         "/run", "/home", "/opt", "/srv", "/var/log", "/root", "/etc", "/proc", "/sys", "/tmp", "/var/tmp"]
for path in paths + [FACTS["secret"], os.path.dirname(FACTS["secret"]), FACTS["here"]]:
    attempt(path, open, path, "rb")
    attempt(path, os.open, path, os.O_RDONLY | os.O_DIRECTORY)
    attempt(path, os.listdir, path)
    attempt(path, os.readlink, path)
print("held")
""",
    ),
    Attack(
        name="names and sizes of the host's files",
        code="""
for path in (FACTS["secret"], "/etc/shadow", "/root", "/proc/1", "/sys", "/var"):
    if FACTS["root"]:  # Landlock alone lets them be seen
        attempt(path, os.stat, path)
        assert not os.path.exists(path)
    attempt(path, os.scandir, path)
print("held")
""",
    ),
    Attack(
        name="proc",
        code="""
pids = ["self", "thread-self", "1", str(os.getppid()), str(FACTS["victim"]), str(FACTS["host"])]
names = ["environ", "maps", "mem", "cmdline", "root/etc/passwd", "cwd/etc/passwd", "fd", "fd/0", "fd/1",
         "task", "ns/user", "uid_map", "status", "stat", "attr/current", "oom_score_adj", "syscall"]
for pid in pids:
    for name in names:
        if name in ("fd/0", "fd/1", "ns/user") and "self" in pid and not FACTS["root"]:
            continue  # its own: Landlock knows no rule for what has no path
        attempt((pid, name), os.open, f"/proc/{pid}/{name}", os.O_RDONLY)
for name in ("sys/kernel/core_pattern", "kcore", "kallsyms", "keys", "mounts", "net/tcp", "sysrq-trigger"):
    attempt(name, os.open, f"/proc/{name}", os.O_RDONLY)
    attempt(name, os.open, f"/proc/{name}", os.O_WRONLY)
print("held")
""",
    ),
    Attack(
        name="links and parents",
        code="""
import glob
secret = FACTS["secret"]
for path in ("/dev/fd/0", "/dev/stdin", "/dev/stdout") if FACTS["root"] else ():
    attempt(path, open, path)
for path in ("/usr/../etc/passwd", "/usr/.." + secret,
             "//etc/passwd", "/usr/bin/../../../../../etc/passwd"):
    attempt(path, open, path)
for link in glob.glob("/usr/lib/python3*/*") + glob.glob("/usr/share/*") + glob.glob("/usr/lib/*/*"):
    if os.path.islink(link) and os.readlink(link).startswith(("/etc", "/var", "../../../etc")):
        end = os.readlink(link)
        if end.startswith("/etc/alternatives"):
            continue  # leads back into /usr
        attempt(link, open, link, "rb")
attempt("symlink", os.symlink, secret, "/tmp/link")
attempt("link", os.link, secret, "/tmp/link")
print("held")
""",
    ),
    Attack(
        name="openat beside folders that may be read",
        code="""
secret = FACTS["secret"]
for folder in ("/usr", "/usr/lib", "/dev", "/", "."):
    for how in (os.O_RDONLY | os.O_DIRECTORY, getattr(os, "O_PATH", 0) | os.O_DIRECTORY):
        try:
            fd = os.open(folder, how)
        except OSError:
            continue
        for path in ("../etc/passwd", "../../../../etc/shadow", "../../../.." + secret, secret, secret[1:]):
            attempt((folder, path), os.open, path, os.O_RDONLY, dir_fd=fd)
        try:
            os.fchdir(fd)
        except OSError:
            continue
        attempt("from there", open, secret[1:])
        attempt("from there", open, "../../.." + secret)
for folder in ("/root", "/etc", "/proc/1/root", "..", "/"):
    try:
        os.chdir(folder)
    except OSError:
        continue
    attempt(folder, open, "passwd")
    attempt(folder, open, "etc/passwd")
print("held")
""",
    ),
    Attack(
        name="files by handle and by newer calls",
        x86_64=True,
        code="""
handle = ctypes.create_string_buffer(bytes([128, 0, 0, 0]) + bytes(140))
mount_id = ctypes.c_int()
system("name_to_handle_at", 303, -100, b"/usr", handle, ctypes.byref(mount_id), 0)
system("open_by_handle_at", 304, -100, handle, 0)
how = ctypes.create_string_buffer(24)
system("openat2", 437, -100, b"/usr/bin", how, 24)
system("openat2 of the secret", 437, -100, FACTS["secret"].encode(), how, 24)
calls("open_tree=428 move_mount=429 fsopen=430 fsconfig=431 fsmount=432 fspick=433 mount_setattr=442 "
      "inotify_init=253 inotify_init1=294 fanotify_init=300 statmount=457 listmount=458 getxattrat=464",
      -100, b"/usr", 0, 0, 0)
calls("chmod=90 truncate=76 creat=85 getxattr=191 readahead=187 statfs=137", FACTS["secret"].encode(), 0, 0)
calls("sendfile=40 splice=275 tee=276 copy_file_range=326 vmsplice=278 fstatfs=138", 1, 0, 0, 1)
print("held")
""",
    ),
    Attack(
        name="reading by importing, loading and running",
        code="""
import importlib.util, runpy, zipimport
secret = FACTS["secret"]
spec = importlib.util.spec_from_file_location("secret", secret + ".py")
attempt("import", lambda: spec.loader.exec_module(importlib.util.module_from_spec(spec)))
attempt("runpy", runpy.run_path, secret)
attempt("zip", zipimport.zipimporter, secret)
attempt("dlopen", ctypes.CDLL, secret)
libc.fopen.restype = ctypes.c_void_p
if libc.fopen(secret.encode(), b"r"):
    escaped("fopen")
if libc.open(secret.encode(), 0) != -1:
    escaped("open")
print("held")
""",
    ),
    Attack(
        name="devices",
        code="""
for name in ("mem", "kmem", "port", "kmsg", "kvm", "fuse", "tty", "ptmx", "pts/0", "console", "random",
             "full", "shm", "mqueue", "net/tun", "vhost-net", "sda", "vda", "loop0", "nvidia0",
             "hpet", "userfaultfd", "zero/../mem"):
    attempt(name, os.open, "/dev/" + name, os.O_RDONLY)
for name in ("null", "zero", "urandom"):
    fd = os.open("/dev/" + name, os.O_RDONLY)
    for request in (0x5412, 0x541B, 0x5413, 0x40045203, 0x5203):  # TIOCSTI, FIONREAD, a size, RNDCLEARPOOL
        attempt((name, request), __import__("fcntl").ioctl, fd, request, b"x" * 8)
print("held")
""",
    ),
    Attack(
        name="writing wherever it may be possible",
        code="""
import tempfile
library = os.path.dirname(os.__file__)
folders = ["/", ".", "/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", "/run/lock", "/var/crash", "/usr",
           "/usr/lib", "/usr/local", "/home", "/root", "/proc", "/sys", "/mnt", "/opt", "/srv", library,
           sys.prefix, sys.exec_prefix,
           os.path.dirname(FACTS["secret"]), FACTS["here"], os.path.dirname(sys.executable or "/usr/bin/x")]
for folder in folders:
    for mode in ("w", "x", "a", "r+"):
        attempt((folder, mode), open, folder + "/hostile", mode)
    attempt(folder, os.mkdir, folder + "/hostile")
    attempt(folder, os.mkfifo, folder + "/hostile")
    attempt(folder, os.mknod, folder + "/hostile")
    attempt(folder, os.open, folder, os.O_TMPFILE | os.O_RDWR)
    attempt(folder, os.chmod, folder, 0o777)
    attempt(folder, os.utime, folder)
attempt("tempfile", tempfile.mkstemp)
attempt("tempfile", tempfile.mkdtemp)
print("held")
""",
    ),
    Attack(
        name="changing a file of the host",
        code="""
for path in (FACTS["secret"], "/usr/bin/env", os.__file__, "/dev/zero", "/etc/ld.so.cache"):
    attempt("w", open, path, "w")
    attempt("a", open, path, "a")
    attempt("r+", open, path, "r+")
    attempt("O_TRUNC", os.open, path, os.O_RDONLY | os.O_TRUNC)
    attempt("truncate", os.truncate, path, 0)
    attempt("chmod", os.chmod, path, 0o666)
    attempt("chown", os.chown, path, os.getuid(), os.getgid())
    attempt("unlink", os.unlink, path)
    attempt("rename", os.rename, path, path + ".old")
    attempt("replace", os.replace, "/usr/bin/true", path)
    attempt("link", os.link, path, path + ".link")
    attempt("utime", os.utime, path)
    attempt("setxattr", os.setxattr, path, "user.hostile", b"x")
    attempt("remove its folder", os.rmdir, os.path.dirname(path))
print("held")
""",
    ),
    Attack(
        name="locks, leases and notifications",
        code="""
import fcntl
fd = os.open("/usr/bin/env", os.O_RDONLY)
attempt("flock", fcntl.flock, fd, fcntl.LOCK_SH)
attempt("lockf", fcntl.lockf, 1, fcntl.LOCK_EX)
for command in (fcntl.F_SETLEASE, fcntl.F_NOTIFY, fcntl.F_SETOWN, fcntl.F_SETSIG, fcntl.F_SETPIPE_SZ,
                fcntl.F_ADD_SEALS, 15, 37, 38, 1035, 1036):
    for descriptor in (0, 1, fd):
        attempt(("fcntl", command), fcntl.fcntl, descriptor, command, 1)
print("held")
""",
    ),
    Attack(
        name="the environment",
        code="""
known = {"PATH", "HOME", "LANG", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "MALLOC_ARENA_MAX",
         "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LC_CTYPE"}
if set(os.environ) - known:
    escaped("variables", set(os.environ) - known)
block = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
for i in range(1000):
    if block[i] is None:
        break
    if block[i].split(b"=")[0].decode() not in known:
        escaped("variable", block[i])
# what the kernel laid above the stack at the start: arguments, environment, the interpreter's path
top = ctypes.POINTER(ctypes.c_void_p).in_dll(libc, "environ")[0]
if b"hidden-" + b"in-the-environment" in ctypes.string_at(top, sum(len(block[j]) for j in range(i))):
    escaped("environment block")
print("held")
""",
    ),
]
