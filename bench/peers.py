"""Other mail servers as relays, to be measured beside ringpost: each in an overlay over the system's root, so that their
packages, which exclude each other, and their configurations never meet ours; their queues on the same disk as our spool.

Nothing of what makes a server's mail survive a power cut is turned off in any of them. What is changed from the
distribution's defaults is written here, and only raises caps that a fast sender would run into."""
import os
import shutil
import signal
import subprocess
import time

import lab

STORE = os.path.join(lab.ROOT, "build/peers")


class Cgroup:
    """CPU time of everything that a command starts, whatever becomes of it."""

    def __init__(self, name):
        self.v1 = os.path.isdir("/sys/fs/cgroup/cpuacct")
        base = "/sys/fs/cgroup/cpuacct" if self.v1 else "/sys/fs/cgroup"
        self.path = os.path.join(base, f"ringpost-bench-{os.getpid()}-{name}")
        os.mkdir(self.path)

    def enter(self):
        """In the child, before exec."""
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))

    def cpu(self):
        if self.v1:
            with open(os.path.join(self.path, "cpuacct.usage"), encoding="ascii") as file:
                return int(file.read()) / 1e9
        with open(os.path.join(self.path, "cpu.stat"), encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e6

    def processes(self):
        with open(os.path.join(self.path, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file]

    def end(self):
        """Whatever is still in it ends; only what we started can be."""
        for wait in (0.5, 0.5, 1, 2):
            pids = self.processes()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if not pids:
                break
            time.sleep(wait)
        os.rmdir(self.path)


class Peer:
    """`package` is installed into the overlay once and kept in build/peers; start() gives it a fresh queue."""
    name = package = spool = ""
    variant = ""
    slower = 40  # so many times fewer messages than ringpost gets, so that a turn does not take minutes
    turns_left_out = 0

    def __init__(self):
        self.upper = os.path.join(STORE, self.package, "upper")
        self.stamp = os.path.join(STORE, self.package, "installed")
        self.cgroup = self.process = self.directory = None
        self.port = 0

    def title(self):
        return f"{self.name} {self.variant}".strip()

    def mount(self, directory):
        """Shell text that mounts the overlay on `directory`/root, inside a mount namespace."""
        return (f"set -e; mount --make-rprivate /; mount -t overlay overlay "
                f"-o lowerdir=/,upperdir={self.upper},workdir={directory}/work {directory}/root; "
                f"mount --bind /dev {directory}/root/dev; mount -t proc proc {directory}/root/proc; ")

    def prepare(self):
        """Installs the package; needs the network and is done once."""
        if os.path.exists(self.stamp):
            return
        directory = os.path.dirname(self.upper)
        for name in ("upper", "work", "root"):
            os.makedirs(os.path.join(directory, name), exist_ok=True)
        script = (self.mount(directory) +
                  f"printf '#!/bin/sh\\nexit 101\\n' > {directory}/root/usr/sbin/policy-rc.d; "
                  f"chmod 755 {directory}/root/usr/sbin/policy-rc.d; "
                  f"DEBIAN_FRONTEND=noninteractive chroot {directory}/root apt-get install -y --no-install-recommends "
                  f"{self.package}")
        run = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise lab.Failed(f"{self.name} could not be installed into its overlay: {run.stdout[-500:]}{run.stderr[-500:]}")
        with open(self.stamp, "w", encoding="ascii"):
            pass

    def version(self):
        own = f"{self.upper}/var/lib/dpkg"  # not there when the system has the package already
        words = ["dpkg-query", f"--admindir={own if os.path.exists(own + '/status') else '/var/lib/dpkg'}", "-W", "-f", "${Version}"]
        run = subprocess.run([*words, self.package], capture_output=True, text=True, check=False)
        return f"{self.package} {run.stdout}" if run.returncode == 0 else self.package

    def start(self, room, sink_port):
        self.port = lab.free_port()
        self.directory = room.path(f"peer-{self.port}")
        for name in ("work", "root", "queue"):
            os.makedirs(os.path.join(self.directory, name))
        for name, text in self.files(self.port, sink_port).items():
            path = os.path.join(self.directory, "files", name.lstrip("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        script = (self.mount(self.directory) + f"cp -r {self.directory}/files/. {self.directory}/root/; "
                  f"mkdir -p {self.directory}/root{self.spool}; "
                  f"mount --bind {self.directory}/queue {self.directory}/root{self.spool}; "
                  f"cat > {self.directory}/root/run-peer <<'END'\n{self.script()}\nEND\n"
                  f"exec chroot {self.directory}/root sh -e /run-peer")
        self.cgroup = Cgroup(self.package)
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "sh", "-c", script],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                            preexec_fn=self.cgroup.enter)
        room.processes.append(self.process)
        lab.wait_until(lambda: lab.listening(self.port) or self.process.poll() is not None, 60, f"{self.title()} to listen")
        if self.process.poll() is not None:
            raise lab.Failed(f"{self.title()} did not start: {lab.tail(os.path.join(self.directory, 'log'))}")

    def cpu(self):
        return self.cgroup.cpu()

    def stop(self):
        self.cgroup.end()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def files(self, port, sink_port):
        """{path in its root: text}"""
        raise NotImplementedError

    def script(self):
        """Runs the server in the foreground; the queue's directory is empty."""
        raise NotImplementedError


class Postfix(Peer):
    name, package, spool = "Postfix", "postfix", "/var/spool/postfix"
    settings = ""

    def files(self, port, sink_port):
        return {
            "/etc/postfix/main.cf": f"""compatibility_level = 3.6
maillog_file = /var/log/postfix-bench.log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink_port}
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_dns_support_level = disabled
smtp_host_lookup = native
{self.settings}""",
            "/etc/postfix/master.cf": f"""127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""",
        }

    def script(self):
        return "postfix set-permissions 2>/dev/null || true\nexec postfix start-fg"


class PostfixTuned(Postfix):
    variant = "tuned"
    settings = """in_flow_delay = 0
default_process_limit = 200
default_destination_concurrency_limit = 100
initial_destination_concurrency = 100
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
qmgr_message_active_limit = 50000
qmgr_message_recipient_limit = 50000
smtp_connection_cache_on_demand = yes
smtp_connection_reuse_count_limit = 0
"""


class Exim(Peer):
    name, package, spool = "Exim", "exim4-daemon-light", "/var/spool/exim4"
    slower = 100
    turns_left_out = 1

    def files(self, port, sink_port):
        return {"/etc/exim-bench.conf": f"""primary_hostname = exim.test
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 1000
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_accept_queue = 0
queue_run_max = 20
acl_smtp_rcpt = accept
acl_smtp_data = accept
tls_advertise_hosts =
chunking_advertise_hosts = *
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {sink_port}
  allow_localhost
  connection_max_messages = 0
  hosts_try_fastopen =
begin retry
* * F,1h,1m
"""}

    def script(self):
        return ("chown Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4\n"
                "exec exim4 -C /etc/exim-bench.conf -bdf -q1m")


class OpenSmtpd(Peer):
    name, package, spool = "OpenSMTPD", "opensmtpd", "/var/spool/smtpd"
    slower = 75
    turns_left_out = 1

    def files(self, port, sink_port):
        return {"/etc/smtpd-bench.conf": f"""smtp limit max-mails 1000000
smtp limit max-rcpt 1000
mta limit max-conn-per-connector 100 max-conn-per-domain 100 max-conn-per-host 100 max-conn-per-relay 100
mta limit max-conn-per-route 100 max-conn-per-source 100
mta limit conn-delay-connector 0 conn-delay-domain 0 conn-delay-host 0 conn-delay-relay 0 conn-delay-source 0
mta limit session-mail-max 1000000 session-transaction-delay 0 task-hiwat 1000 task-lowat 500 task-release 500
scheduler limit max-inflight 50000 max-msg-batch-size 1000 max-evp-batch-size 2000 max-schedule 1000
listen on 127.0.0.1 port {port} hostname opensmtpd.test
action "out" relay host smtp://127.0.0.1:{sink_port} helo opensmtpd.test
match from any for any action "out"
"""}

    def script(self):
        return ("chmod 711 /var/spool/smtpd\n"
                "ulimit -n $(ulimit -Hn)\nexec smtpd -d -f /etc/smtpd-bench.conf")


ALL = [Postfix, PostfixTuned, Exim, OpenSmtpd]
