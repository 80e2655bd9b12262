"""Programs that look for what is expected, forge it, or end in odd ways."""

from .attack import Attack

_SCAN = """
import array, gc, re
def marks():
    return [re.compile(("gold" + "fish-").encode() + rb"[0-9a-f]{16}"),
            re.compile("".join("gold" + "fish-").encode("utf-16-le") + rb"(?:[0-9a-f]\\0){16}")]

def scan():
    '''All memory that is found by following whatever looks like a pointer, from a few places.'''
    r, w = os.pipe()
    seen, good, bad, found = set(), {}, set(), set()
    todo = [id(gc), id(scan), id(sys._getframe()), ctypes.cast(libc.malloc, ctypes.c_void_p).value,
            ctypes.cast(libc.environ if hasattr(libc, "environ") else libc.free, ctypes.c_void_p).value,
            ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "Py_Version"))
            if hasattr(ctypes.pythonapi, "Py_Version") else id(None),
            ctypes.cast(ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ"), ctypes.c_void_p).value]
    todo = [address >> 12 for address in todo]
    write, patterns = libc.write, marks()
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        count = write(w, ctypes.c_void_p(page << 12), ctypes.c_size_t(4096))
        if count <= 0:
            continue
        data = os.read(r, count)
        good[page] = True
        todo += (page - 1, page + 1)
        if len(data) == 4096:
            words = {word >> 12 for word in array.array("Q", data)}
            todo += [p for p in words - seen if 0x1000 < p < 1 << 35]
        for pattern in patterns:
            found.update(pattern.findall(data))
    return len(good), found
"""

ATTACKS = [
    Attack(
        name="what is expected, in its frames and objects",
        expected="goldfish-0123456789abcdef",
        outcomes=("wrong",),
        code="""
import gc, re
mark = re.compile("gold" + "fish-[0-9a-f]{16}")
texts, frame = [], sys._getframe()
while frame is not None:
    for space in (frame.f_locals, frame.f_globals):
        texts += [repr(v)[:100000] for v in space.values() if isinstance(v, (str, bytes, list, dict))]
    texts.append(repr(frame.f_code.co_consts))
    frame = frame.f_back
for thing in gc.get_objects():
    if isinstance(thing, (dict, list, tuple)):
        texts += [t for t in (thing.values() if isinstance(thing, dict) else thing) if isinstance(t, str)]
for module in list(sys.modules.values()):
    texts += [str(v) for v in vars(module).values() if isinstance(v, (str, bytes, bytearray))]
found = {match for text in texts for match in mark.findall(text)}
if found:
    escaped(found)
print("not there")
""",
    ),
    Attack(
        name="what is expected, and what came before, in all of its memory",
        expected="goldfish-0123456789abcdef",
        input="gold fish- fedcba9876543210",
        outcomes=("wrong",),
        code=_SCAN
        + """
# What lies in memory of the C library alone is found: the input, joined there.
text = os.read(0, 100).split()
here = ctypes.create_string_buffer(200)
for i, part in enumerate(text):
    ctypes.memmove(ctypes.addressof(here) + 100 + sum(map(len, text[:i])), part, len(part))
own = b"".join(text)
pages, found = scan()
assert own in found, (pages, found)
for one in found - {own}:
    escaped(one)
assert pages > 2000, pages
print("not there")
""",
    ),
    Attack(
        name="descriptors that it inherits",
        code="""
import select
there = []
for fd in range(1024):
    try:
        os.fstat(fd)
        there.append(fd)
    except OSError:
        pass
if there != [0, 1, 2]:
    escaped("descriptors", there)
import socket
for fd in range(3, 1024):
    attempt(("write", fd), os.write, fd, b"AAAA" * 10)
    attempt(("read", fd), os.read, fd, 10)
    attempt(("dup", fd), os.dup, fd)
    attempt(("send", fd), lambda: libc.send(fd, b"AAAA", 4, 0) == -1 and 1 / 0)
for fd in (0, 1, 2):
    attempt(("send", fd), lambda: libc.send(fd, b"AAAA", 4, 0) == -1 and 1 / 0)
print("held")
""",
    ),
    Attack(
        name="descriptors that a call inherits",
        function="run",
        input="1",
        expected='"held"',
        code="""
def run(_):
    there = []
    for fd in range(1024):
        try:
            os.fstat(fd)
            there.append(fd)
        except OSError:
            pass
    return "held" if there == [0, 1, 2, 3] else f"ESCAPED: {there}"
""",
    ),
    Attack(
        name="its input and streams, changed",
        code="""
import fcntl, mmap
attempt("write to stdin", os.write, 0, b"x")
attempt("truncate stdin", os.ftruncate, 0, 0)
attempt("map stdin to write", mmap.mmap, 0, 4096)
attempt("map the input to write, by C", mmap.mmap, 0, 2, mmap.MAP_SHARED, 3)
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, 0, ctypes.c_long(0))  # to read, shared
if libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(4096), 3) != -1:
    escaped("stdin can be written to")
for fd in (0, 1, 2):
    for seals in (1, 2, 4, 8, 15):
        attempt("seal", fcntl.fcntl, fd, fcntl.F_ADD_SEALS, seals)
    attempt("truncate", os.ftruncate, fd, 1 << 20)
    for path in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}", f"/proc/thread-self/fd/{fd}"):
        attempt(path, os.open, path, os.O_RDWR)
        if FACTS["root"]:  # Landlock knows no rule for what has no path; reading it tells nothing new
            attempt(path, os.open, path, os.O_RDONLY)
    attempt("chmod", os.fchmod, fd, 0o777)
    attempt("chown", os.fchown, fd, 0, 0)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK | 0o20000)
os.lseek(0, 0, 2)
print("held")
""",
    ),
    Attack(
        name="its output, mapped and changed afterwards",
        code="""
import mmap, threading
os.write(1, b"x" * 4096)
view = mmap.mmap(1, 4096)
view[:] = b"held".ljust(4096)
""",
    ),
    Attack(
        name="an exit before any output",
        outcomes=("wrong",),
        code="print('held')\nos._exit(0)",
    ),
    Attack(name="exit status 125", outcomes=("exception",), code="print('held', flush=True)\nos._exit(125)"),
    Attack(
        name="an exit status and an error in atexit",
        outcomes=("exception",),
        code="""
import atexit
print("held", flush=True)
atexit.register(lambda: os._exit(3))
class Late:
    def __del__(self): raise RuntimeError("late")
late = Late()
sys.exit(0)
""",
    ),
    Attack(
        name="an exit code that is no number, and one that raises",
        outcomes=("exception",),
        code="""
class Code:
    def __str__(self): raise KeyboardInterrupt
print("held", flush=True)
raise SystemExit(Code())
""",
    ),
    Attack(
        name="an exception that cannot be shown",
        outcomes=("exception", "signal"),
        code="""
class Odd(BaseException):
    def __str__(self): raise self
    @property
    def __traceback__(self): raise self
    __class__ = property(lambda self: 1 / 0)
print("held", flush=True)
raise Odd
""",
    ),
    Attack(
        name="descriptors closed before the end",
        outcomes=("exception",),
        code="os.closerange(0, 1024)\nprint('held')",
    ),
    Attack(
        name="everything that ends a program, replaced",
        code="""
import atexit, threading, traceback
print("held", flush=True)
os._exit = sys.exit = lambda *a: None
threading._shutdown = traceback.print_exc = lambda *a, **k: None
frame = sys._getframe()
while frame is not None:
    frame.f_globals.clear() if frame.f_back is None else None
    frame = frame.f_back
""",
        outcomes=("passed", "exception", "signal"),
    ),
    Attack(
        name="words of a memory error, and success",
        code="print('held')\nprint('MemoryError', file=sys.stderr)",
    ),
    Attack(
        name="bytes that are no text",
        outcomes=("wrong",),
        code="os.write(1, bytes(range(256)) * 100)\nos.write(2, bytes(range(256)))",
    ),
    Attack(
        name="a value that equals everything",
        function="run",
        input="1",
        expected="42",
        outcomes=("exception",),
        code="""
class Equal:
    def __eq__(self, other): return True
    def __hash__(self): return 42
def run(_): return Equal()
""",
    ),
    Attack(
        name="numbers and texts that equal everything",
        function="run",
        input="1",
        expected='[42, 42.0, "a"]',
        outcomes=("wrong",),
        code="""
class I(int):
    def __eq__(self, other): return True
class F(float):
    def __eq__(self, other): return True
class S(str):
    def __eq__(self, other): return True
def run(_): return [I(1), F(1), S("b")]
""",
    ),
    Attack(
        name="a patched json and patched builtins",
        function="run",
        input="1",
        expected="42",
        outcomes=("wrong",),
        code="""
import builtins, json
def dump(value, file, **options): file.write("{\\"equals\\": \\"everything\\"}")
json.dump = dump
json.loads = lambda *a, **k: 42
builtins.any = builtins.all = builtins.bool = lambda *a: True
def run(_): return 1
""",
    ),
    Attack(
        name="a result of its own making, beside the right one",
        function="run",
        input="1",
        expected="42",
        outcomes=("wrong",),
        code="def run(_):\n    os.write(3, b'41 ')\n    return 42",
    ),
    Attack(
        name="not a number, and infinity",
        function="run",
        input="1",
        expected="42",
        outcomes=("wrong",),
        code="def run(_): return [float('nan'), float('inf')]",
    ),
    Attack(
        name="no result",
        function="run",
        input="1",
        expected="42",
        outcomes=("wrong",),
        code="def run(_): os._exit(0)",
    ),
    Attack(
        name="an exit from a call",
        function="run",
        input="1",
        expected="42",
        outcomes=("wrong",),
        code="def run(_): raise SystemExit(0)",
    ),
    Attack(
        name="a result without end",
        function="run",
        input="1",
        expected="42",
        outcomes=("memory", "timeout"),
        code="import itertools\ndef run(_): return itertools.count()",
    ),
    Attack(
        name="a result that is too large",
        function="run",
        input="1",
        expected="42",
        outcomes=("output_limit",),
        code="def run(_): return 'x' * (4 << 20)",
    ),
    Attack(
        name="a result that is too deep",
        function="run",
        input="1",
        expected="42",
        outcomes=("wrong",),
        code="def run(_):\n    os.write(3, b'[' * 200000)\n    os._exit(0)",
    ),
    Attack(
        name="a number of a million digits",
        function="run",
        input="1",
        expected="42",
        outcomes=("wrong",),
        code="def run(_):\n    os.write(3, b'9' * 1000000)\n    os._exit(0)",
    ),
    Attack(
        name="a call that looks for what is expected",
        function="run",
        input="1",
        expected='"goldfish-0123456789abcdef"',
        outcomes=("wrong",),
        code=_SCAN
        + """
def run(_):
    pages, found = scan()
    if found:
        escaped(found)
    return "not there"
""",
    ),
    Attack(
        name="a call that forks, connects, reads and kills",
        function="run",
        input="1",
        expected='"held"',
        code="""
import socket
def run(_):
    done = [attempt("fork", os.fork),
            attempt("connect", socket.create_connection, ("127.0.0.1", FACTS["tcp"]), 1),
            attempt("read", open, FACTS["secret"]), attempt("write", open, "/tmp/x", "w"),
            attempt("kill", os.kill, os.getppid(), 9), attempt("exec", os.execv, "/usr/bin/true", ["true"])]
    return "held" if None not in done else "ESCAPED: " + repr(done)
""",
    ),
    Attack(
        name="a class whose making ends the program",
        function="run",
        input="1",
        expected="42",
        outcomes=("exception",),
        code="class Solution:\n    def __init__(self): os._exit(9)\n    def run(self, _): return 42",
    ),
]
