"""Programs that use up memory, CPU, time, descriptors and output."""

from .attack import SHORT, SLEEPY, SMALL, Attack

ATTACKS = [
    Attack(
        name="memory as a list of blocks",
        limits=SMALL,
        outcomes=("memory",),
        code="blocks = []\nwhile True: blocks.append(bytearray(1 << 20))",
    ),
    Attack(
        name="memory as small objects that stay referenced",
        limits=SMALL,
        outcomes=("memory",),
        code="blocks = []\nwhile True: blocks.append([])",
    ),
    Attack(
        name="memory as a chain",
        limits=SMALL,
        outcomes=("memory",),
        code="chain = []\nwhile True: chain = [chain]",
    ),
    Attack(name="one huge block", outcomes=("memory",), code="block = bytearray(1 << 40)"),
    Attack(
        name="a huge map",
        outcomes=("memory",),
        code="import mmap\nmmap.mmap(-1, 1 << 40)",
    ),
    Attack(
        name="a map shared with nobody",
        limits=SMALL,
        code="""
import mmap
maps = []
try:
    while True:
        maps.append(mmap.mmap(-1, 1 << 20))
        maps[-1][:] = b"x" * (1 << 20)
except OSError:
    pass
if len(maps) > 60:
    escaped(len(maps), "MiB")
print("held", flush=True)
os._exit(0)
""",
    ),
    Attack(
        name="many small maps",
        limits=SMALL,
        outcomes=("passed", "memory", "exception"),
        code="""
libc.mmap.restype = ctypes.c_void_p
count = 0
while count < 1000000:
    place = libc.mmap(None, ctypes.c_size_t(4096), 3 if count % 2 else 1, 0x22, -1, ctypes.c_long(0))
    if place in (None, ctypes.c_void_p(-1).value):
        break
    count += 1
if count > 60 * 256:
    escaped(count, "pages")
os.write(1, b"held")
os._exit(0)
""",
    ),
    Attack(
        name="memory after the error is swallowed",
        limits=SHORT,
        outcomes=("timeout",),
        code="""
blocks = []
while True:
    try:
        blocks.append(bytearray(1 << 16))
    except MemoryError:
        pass
""",
    ),
    Attack(
        name="shared memory that outlives it",
        code="""
from multiprocessing import shared_memory
import _posixshmem
attempt("shm", shared_memory.SharedMemory, create=True, size=1 << 20)
attempt("shm_open", _posixshmem.shm_open, "/hostile", os.O_CREAT | os.O_RDWR, 0o600)
for name, arguments in (("shmget", (0, 4096, 0o1600)), ("msgget", (0, 0o1600)), ("semget", (0, 1, 0o1600))):
    if getattr(libc, name)(*arguments) != -1:
        escaped(name)
print("held")
""",
    ),
    Attack(
        name="stack without end in Python",
        outcomes=("exception",),
        code="def f(): f()\nf()",
    ),
    Attack(
        name="stack without end in C",
        outcomes=("signal",),
        code="""
sys.setrecursionlimit(1 << 30)
nest = []
for _ in range(1 << 18):
    nest = [nest]
print(repr(nest)[:1], nest == eval("nest"))
""",
    ),
    Attack(name="abort", outcomes=("signal",), code="print('held', flush=True)\nos.abort()"),
    Attack(
        name="a wild pointer",
        outcomes=("signal",),
        code="print('held', flush=True)\nctypes.string_at(8, 8)",
    ),
    Attack(
        name="an allocation in C that aborts",
        limits=SMALL,
        outcomes=("signal", "memory"),
        code="""
libc.malloc.restype = ctypes.c_void_p
while libc.malloc(ctypes.c_size_t(1 << 12)): pass
sys.stderr.write("no memory")
libc.abort()
""",
    ),
    Attack(name="output in one piece", outcomes=("output_limit",), code="print('x' * (16 << 20))"),
    Attack(
        name="output for ever, whatever the error",
        limits=SHORT,
        outcomes=("timeout",),
        code="""
while True:
    try:
        os.write(1, b"x" * 65536)
    except OSError:
        pass
""",
    ),
    Attack(
        name="output for ever, stopping at the error",
        outcomes=("output_limit",),
        code="while True: print('x' * 1000)",
    ),
    Attack(
        name="error output for ever",
        outcomes=("output_limit",),
        code="print('held', flush=True)\nwhile True: print('x' * 1000, file=sys.stderr)",
    ),
    Attack(
        name="output up to the limit exactly",
        expected="x" * (1 << 20),
        code="os.write(1, b'x' * (1 << 20))",
    ),
    Attack(
        name="output one byte beyond the limit",
        outcomes=("output_limit",),
        expected="x" * (1 << 20),
        code="""
sent = 0
try:
    while sent < (1 << 20) + 1:
        sent += os.write(1, b"x" * ((1 << 20) + 1 - sent))
except OSError:
    pass
""",
    ),
    Attack(
        name="output with holes",
        outcomes=("exception",),
        code="os.lseek(1, 1 << 40, 0)\nos.write(1, b'x')",
    ),
    Attack(
        name="growing the output by other means",
        code="""
attempt("ftruncate", os.ftruncate, 1, 1 << 40)
attempt("fallocate", os.posix_fallocate, 1, 0, 1 << 30)
attempt("pwrite", os.pwrite, 1, b"x", 1 << 40)
attempt("sendfile", os.sendfile, 1, 0, 0, 1 << 30)
print("held")
""",
    ),
    Attack(
        name="descriptors until there are none",
        code="""
count = 0
try:
    while True:
        count += len(os.pipe())
except OSError as error:
    assert error.errno == 24, error
if count > 100:
    escaped(count, "descriptors")
print("held")
""",
    ),
    Attack(
        name="kernel memory in pipes and socket pairs",
        code="""
import socket
total, kept = 0, []
try:
    while True:
        kept.append(socket.socketpair())
        for end in kept[-1]:
            end.setblocking(False)
            try:
                while True:
                    total += end.send(b"x" * 4096)
            except BlockingIOError:
                pass
except OSError:
    pass
if total > 64 << 20:
    escaped(total, "bytes")
print("held")
""",
    ),
    Attack(
        name="signals queued to itself",
        code="""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN + 5])
count = 0
try:
    while count < 100000:
        signal.raise_signal(signal.SIGRTMIN + 5)
        count += 1
except OSError:
    pass
if count > 1000:
    escaped(count, "signals")
print("held")
""",
    ),
    Attack(
        name="CPU with every signal ignored",
        limits=SHORT,
        outcomes=("timeout",),
        code="""
import signal
for number in signal.valid_signals():
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True: pass
""",
    ),
    Attack(name="CPU in one power", limits=SHORT, outcomes=("timeout",), code="print(7 ** 7 ** 9 % 10)"),
    Attack(
        name="CPU in one regular expression",
        limits=SHORT,
        outcomes=("timeout",),
        code="import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    ),
    Attack(
        name="CPU in threads",
        limits=SHORT,
        outcomes=("timeout",),
        code="""
import hashlib, threading
def work():
    while True: hashlib.sha256(b"x" * 1000000).digest()
for _ in range(4): threading.Thread(target=work).start()
work()
""",
    ),
    Attack(
        name="CPU after the main thread has gone",
        limits=SHORT,
        outcomes=("timeout",),
        x86_64=True,
        code="""
import threading
def work():
    while True: pass
threading.Thread(target=work).start()
libc.syscall(60, 0)
""",
    ),
    Attack(
        name="CPU in a finalizer at exit",
        limits=SHORT,
        outcomes=("timeout",),
        code="""
import atexit
@atexit.register
def last():
    print("held", flush=True)
    while True: pass
""",
    ),
    Attack(name="sleep", limits=SLEEPY, outcomes=("wall_timeout",), code="import time\ntime.sleep(1000)"),
    Attack(
        name="sleep in a thread that is waited for",
        limits=SLEEPY,
        outcomes=("wall_timeout",),
        code="""
import threading, time
print("held", flush=True)
threading.Thread(target=time.sleep, args=(99,)).start()
""",
    ),
    Attack(
        name="waiting for a child that is not there, and for input",
        expected="held",
        code="""
attempt("wait", os.wait)
attempt("waitpid", os.waitpid, os.getppid(), 0)
sys.stdin.read()
sys.stdin.read()
print("held")
""",
    ),
    Attack(
        name="waiting for itself",
        limits=SLEEPY,
        outcomes=("wall_timeout",),
        code="r, w = os.pipe()\nprint('held', flush=True)\nos.read(r, 1)",
    ),
    Attack(
        name="a bomb in a compressed string",
        limits=SMALL,
        outcomes=("memory",),
        code="""
import zlib
packer = zlib.compressobj(1)
data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
zlib.decompress(data)
""",
    ),
    Attack(
        name="a program that the compiler cannot stand",
        outcomes=("exception", "memory", "signal"),
        code="exec(compile('(' * 100000 + ')' * 100000, 'x', 'exec'))",
    ),
    Attack(
        name="a long tail after the answer",
        outcomes=("wrong",),
        code="print('held')\nprint('1 ' * 400000)",
    ),
]
