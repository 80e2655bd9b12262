"""Programs that start, disturb or look into processes, and that ask the kernel for powers."""

from .attack import SHORT, SLEEPY, Attack

ATTACKS = [
    Attack(
        name="fork and vfork",
        code="""
for _ in range(50):
    attempt("fork", os.fork)
    attempt("forkpty", os.forkpty)
if libc.fork() != -1:
    escaped("libc fork")
print("held")
""",
    ),
    Attack(
        name="fork, vfork, clone and clone3 by number",
        x86_64=True,
        code="""
import struct
calls("fork=57 vfork=58", 0)
for flags in (17, 0, 0x100 | 17, 0x4000 | 17, 0x100 | 0x4000 | 17, 0x8000 | 17, 0x900, 0x10800, 0x2000 | 17):
    system(("clone", flags), 56, flags, 0, 0, 0, 0)
for flags in (0, 0x10000000, 0x200000000, 0x50f00):
    system(("clone3", flags), 435, struct.pack("11Q", flags, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
print("held")
""",
    ),
    Attack(
        name="subprocess, spawn and system",
        code="""
import subprocess, pty
attempt("run", subprocess.run, ["/usr/bin/true"])
attempt("run", subprocess.run, "true", shell=True)
attempt("spawn", os.posix_spawn, "/usr/bin/true", ["true"], {})
attempt("spawnv", os.spawnv, os.P_WAIT, "/usr/bin/true", ["true"])
attempt("pty", pty.fork)
attempt("popen", os.popen, "true")
for _ in range(20):
    if os.system("true") == 0:
        escaped("system")
print("held")
""",
    ),
    Attack(
        name="multiprocessing",
        code="""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
for method in ("fork", "spawn", "forkserver"):
    context = multiprocessing.get_context(method)
    attempt(method, lambda: context.Process(target=print).start())
    attempt(method, lambda: context.Pool(2))
attempt("pool", lambda: ProcessPoolExecutor(2).submit(abs, 1).result(1))
print("held", flush=True)
os._exit(0)
""",
    ),
    Attack(
        name="a bomb of forks that never gives up",
        limits=SHORT,
        outcomes=("timeout",),
        code="""
while True:
    try:
        if os.fork() == 0:
            escaped("forked")
    except OSError:
        pass
""",
    ),
    Attack(
        name="exec of every kind",
        code="""
attempt("execv", os.execv, "/usr/bin/echo", ["echo", "ESCAPED: exec"])
python = sys.executable or "/usr/bin/python3"
attempt("execve", os.execve, python, ["python3", "-c", "print('ESCAPED: exec')"], {})
fd = os.open("/usr/bin/echo", os.O_RDONLY)
attempt("fexecve", os.execve, fd, ["echo", "ESCAPED: exec"], {})
attempt("memfd", os.memfd_create, "program")
attempt("memfd", os.memfd_create, "program", 0x10)
attempt("exec of stdin", os.execve, 0, ["x"], {})
attempt("exec of stdout", os.execve, 1, ["x"], {})
print("held")
""",
    ),
    Attack(
        name="a bomb of Python threads",
        code="""
import threading
threads = []
try:
    while True:
        threads.append(threading.Thread(target=threading.Event().wait, daemon=True))
        threads[-1].start()
except RuntimeError:
    pass
if len(threads) - 1 > FACTS["tasks"]:
    escaped(len(threads), "threads")
print("held", flush=True)
os._exit(0)
""",
    ),
    Attack(
        name="a bomb of threads with tiny stacks",
        code="""
flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
stacks = ctypes.create_string_buffer(4096 * 5000)
pause = ctypes.cast(libc.pause, ctypes.c_void_p)
count = 0
while count < 4990:
    top = ctypes.c_void_p((ctypes.addressof(stacks) + 4096 * (count + 1)) & ~15)
    if libc.clone(pause, top, flags, None) == -1:
        break
    count += 1
if count > FACTS["tasks"]:
    escaped(count, "threads")
os.write(1, b"held")
os._exit(0)
""",
    ),
    Attack(
        name="as many threads as are allowed, and no more",
        code="""
import threading
threading.stack_size(64 << 10)
gate, started = threading.Event(), 0
try:
    for _ in range(FACTS["threads"] + 1):
        threading.Thread(target=gate.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass
gate.set()
if FACTS["exact"]:
    assert started == FACTS["threads"], started
else:
    assert started >= FACTS["threads"], started
print("held")
""",
    ),
    Attack(
        name="signals to everybody else",
        code="""
import signal
own = os.getpid()
targets = [1, -1, 0, os.getppid(), -os.getpgrp(), FACTS["victim"], FACTS["host"], *range(2, 60)]
for target in targets:
    for number in (0, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGCHLD):
        if target != own:
            attempt(("kill", target, number), os.kill, target, number)
attempt("killpg", os.killpg, os.getpgrp(), signal.SIGSTOP)
for target in (1, os.getppid(), FACTS["victim"], FACTS["host"]):
    if target != own:
        attempt("pidfd_open", os.pidfd_open, target)
        attempt("pidfd_send_signal", signal.pidfd_send_signal, 0, signal.SIGKILL)
print("held")
""",
    ),
    Attack(
        name="signals by number",
        x86_64=True,
        code="""
for target in (1, os.getppid(), FACTS["victim"], FACTS["host"]):
    if target in (0, os.getpid()):
        continue
    calls("kill=62 tkill=200", target, 9)
    calls("tgkill=234 rt_tgsigqueueinfo=297", target, target, 9, bytes(128))
    system("rt_sigqueueinfo", 129, target, 9, bytes(128))
    calls("pidfd_open=434 pidfd_getfd=438 pidfd_send_signal=424", target, 0, 0)
    calls("process_madvise=440 process_mrelease=448", target, 0, 0)
    system("get_robust_list", 274, target, ctypes.byref(ctypes.c_long()), ctypes.byref(ctypes.c_long()))
system("timer_create", 222, 1, 0, ctypes.byref(ctypes.c_int()))
print("held")
""",
    ),
    Attack(
        name="looking into processes",
        x86_64=True,
        code="""
for target in (1, os.getppid(), FACTS["victim"], FACTS["host"], os.getpid()):
    for request in (0, 16, 0x4206):
        system(("ptrace", request), 101, request, target, 0, 0)
    place = ctypes.create_string_buffer(64)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(place), 64)
    calls("process_vm_readv=310 process_vm_writev=311", target, vector, 1, vector, 1, 0)
    system("kcmp", 312, target, os.getpid(), 0, 0, 1)
    calls("move_pages=279 migrate_pages=256", target, 0, 0, 0)
print("held")
""",
    ),
    Attack(
        name="limits of its own and of others",
        code="""
import resource
for kind in range(16):
    soft, hard = resource.getrlimit(kind)
    attempt(("setrlimit", kind), resource.setrlimit, kind, (hard, hard))
    attempt(("setrlimit", kind), resource.setrlimit, kind, (-1, -1))
    for target in (1, os.getppid(), FACTS["victim"], FACTS["host"]):
        if target not in (0, os.getpid()):
            attempt(("prlimit", target), resource.prlimit, target, kind)
            attempt(("prlimit", target), resource.prlimit, target, kind, (0, 0))
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
print("held")
""",
    ),
    Attack(
        name="kernel surfaces",
        x86_64=True,
        code="""
calls("io_uring_setup=425 io_uring_enter=426 io_uring_register=427 add_key=248 request_key=249 keyctl=250 "
      "bpf=321 perf_event_open=298 userfaultfd=323 init_module=175 finit_module=313 delete_module=176 "
      "kexec_load=246 kexec_file_load=320 iopl=172 ioperm=173 modify_ldt=154 acct=163 swapon=167 "
      "quotactl=179 syslog=103 vhangup=153 settimeofday=164 clock_settime=227 adjtimex=159 memfd_create=319 "
      "memfd_secret=447 landlock_create_ruleset=444 landlock_restrict_self=446 pkey_alloc=330 membarrier=324 "
      "mbind=237 shmget=29 shmat=30 msgget=68 semget=64 mq_open=240 signalfd4=289 timerfd_create=283 "
      "mlockall=151 uselib=134 ustat=136 sysfs=139 io_setup=206 remap_file_pages=216 fallocate=285 "
      "mlock=149 futex_waitv=449 map_shadow_stack=453 cachestat=451 lsm_set_self_attr=460", 0, 0, 0, 0, 0)
print("held")
""",
    ),
    Attack(
        name="namespaces, mounts and roots",
        x86_64=True,
        code="""
for flag in (1 << 28, 1 << 30, 1 << 29, 1 << 17, 1 << 27, 1 << 26, 1 << 25, 0x80, 0x400, 0):
    system(("unshare", flag), 272, flag)
    system(("setns", flag), 308, 0, flag)
    system(("clone", flag), 56, flag | 17, 0, 0, 0, 0)
    system(("clone", flag), 56, flag | 0x50f00, 0, 0, 0, 0) if flag not in (0, 0x400) else None
for source, target, kind in ((b"none", b"/", b"tmpfs"), (b"proc", b"/usr", b"proc"), (b"/", b"/usr", None)):
    system("mount", 165, source, target, kind, 0, 0)
calls("umount2=166 pivot_root=155 chroot=161", b"/usr", b"/usr")
attempt("chroot", os.chroot, "/usr")
print("held")
""",
    ),
    Attack(
        name="users, capabilities and personality",
        x86_64=True,
        code="""
for user in (0, os.getuid(), 1000):
    calls("setuid=105 setgid=106 setreuid=113 setregid=114 setresuid=117 setresgid=119", user, user, user)
    system("setgroups", 116, 1, (ctypes.c_int * 1)(user))
calls("personality=135 capset=126 capget=125 setsid=112 setpgid=109 sethostname=170 setdomainname=171", 0, 0)
calls("sched_setscheduler=144 sched_setaffinity=203 setpriority=141 ioprio_set=251 sched_setattr=314", 0, 0)
if os.getuid() == 0 and not FACTS["root"]:
    escaped("it is root")
print("held")
""",
    ),
    Attack(
        name="prctl and seccomp",
        x86_64=True,
        code="""
PTRACER, others = 0x59616D61, (1, 4, 8, 15, 22, 23, 24, 26, 28, 35, 36, 38, 53, 59)
plain = [(option, value) for option in others for value in (0, 1)]
for option, value in [(PTRACER, -1), (PTRACER, 1), (1, 9), (22, 2), *plain]:
    system(("prctl", option), 157, option, value, 0, 0, 0)
for operation in (0, 1, 2, 3):
    system(("seccomp", operation), 317, operation, 0, bytes(16))
print("held")
""",
    ),
    Attack(
        name="system calls of the x32 table",
        x86_64=True,
        outcomes=("signal",),
        code="""
print(libc.syscall(ctypes.c_long(0x40000000 | 39)))
escaped("an x32 call")
""",
    ),
    Attack(
        name="int 0x80 from a page of its own",
        x86_64=True,
        outcomes=("signal",),
        code="""
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # mov eax, getpid; int 0x80; ret
start = ctypes.addressof(ctypes.c_char.from_buffer(page))
print(ctypes.CFUNCTYPE(ctypes.c_int)(start)())
escaped("a 32-bit call")
""",
    ),
    Attack(
        name="a system call from a page of its own",
        x86_64=True,
        code="""
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xB8, 57, 0, 0, 0, 0x0F, 0x05, 0xC3]))  # mov eax, fork; syscall; ret
start = ctypes.addressof(ctypes.c_char.from_buffer(page))
if ctypes.CFUNCTYPE(ctypes.c_int)(start)() != -1:
    escaped("a fork")
print("held")
""",
    ),
    Attack(
        name="every system call that is not listed",
        x86_64=True,
        code="""
# The kernel lets uretprobe and uprobe past every filter, and kills who calls them from anywhere but a probe.
for number in sorted({*range(700), (1 << 30) - 1, 1 << 20} - {*FACTS["listed"], 335, 336}):
    ctypes.set_errno(0)
    if system(("call", number), number, 0, 0, 0, 0, 0, 0) != 1:
        escaped("call", number, ctypes.get_errno())
print("held")
""",
    ),
    Attack(
        name="stopping itself",
        limits=SLEEPY,
        outcomes=("wall_timeout",),
        code="import signal\nsignal.raise_signal(signal.SIGSTOP)\nescaped('went on')",
    ),
    Attack(
        name="stopping itself again and again from a thread",
        limits=SLEEPY,
        outcomes=("wall_timeout",),
        code="""
import signal, threading
signal.signal(signal.SIGCONT, lambda *_: signal.raise_signal(signal.SIGSTOP))
threading.Thread(target=signal.raise_signal, args=(signal.SIGTSTP,)).start()
signal.raise_signal(signal.SIGTTIN)
signal.raise_signal(signal.SIGSTOP)
escaped('went on')
""",
    ),
    Attack(
        name="killing itself, which would look like a fault of the host",
        outcomes=("exception",),
        code="import signal\nprint('held', flush=True)\nsignal.raise_signal(signal.SIGKILL)",
    ),
    Attack(
        name="pretending that the kernel's CPU limit ended it",
        outcomes=("timeout",),
        code="import signal\nprint('held', flush=True)\nsignal.raise_signal(signal.SIGXCPU)",
    ),
]
