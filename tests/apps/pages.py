#!/usr/bin/env python3
"""A small web service with a cache that speaks ng-control/1, docs/app-protocol.md. Standard library only.
The protocol is the class Control, 76 lines, and Line, 13 more. The rest is a service that obeys it."""
import argparse, ctypes, hmac, json, os, re, socket, socketserver, struct, threading, time, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LINE_BYTES, MOST = 65536, 64
NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
HTTP = {"bad_request": 400, "unsupported_version": 400, "denied": 403, "unknown_op": 404, "busy": 503}

class Refused(Exception):
    pass

def need(fine, message, code="bad_request", **more):
    if not fine:
        raise Refused({"code": code, "message": message, **more})

class Control:
    """What is asked, whatever it comes over. tiers: name -> (class, bytes(), drop()); numbers: name -> number()."""
    def __init__(self, app, tiers, numbers, max_ttl_ms):
        self.app, self.tiers, self.numbers, self.max_ttl_ms = app, tiers, numbers, max_ttl_ms
        self.instance = uuid.uuid4().hex
        self.lock, self.leases, self.flushed = threading.RLock(), {}, {}

    def live(self):
        with self.lock:
            now = time.monotonic()
            self.leases = {name: lease for name, lease in self.leases.items() if lease["until"] > now}
            return self.leases

    def effective(self):
        return max((lease["level"] for lease in self.live().values()), default=0)

    def gone(self, connection):
        with self.lock:
            self.leases = {name: lease for name, lease in self.leases.items() if lease["bound"] is not connection}

    def answer(self, line, allowed, connection="http", op=None):
        ident = None
        try:
            request = json.loads(line)
            need(isinstance(request, dict), "a request is one JSON object")
            ident = request.get("id") if type(request.get("id")) in (int, str) else None
            need(request.get("v", 1) == 1, "this is ng-control/1", "unsupported_version", supported=[1])
            op = op or request.get("op")
            need(op in ("hello", "status", "throttle", "flush"), "hello, status, throttle or flush", "unknown_op")
            need(allowed or op in ("hello", "status"), "you may ask for hello and status only", "denied")
            with self.lock:
                return {"id": ident, "ok": True, **getattr(self, op)(request, connection)}
        except Refused as refused:
            return {"id": ident, "ok": False, "error": refused.args[0]}
        except (ValueError, RecursionError):
            return self.answer("0", allowed)

    def hello(self, request, connection):
        tiers = [{"name": name, "class": kind, "bytes": size()} for name, (kind, size, _) in self.tiers.items()]
        return {"v": 1, "app": self.app, "instance": self.instance, "caps": ["throttle", "drain", "flush"],
                "tiers": tiers, "max_ttl_ms": self.max_ttl_ms}

    def status(self, request, connection):
        now = time.monotonic()
        leases = [{"lease": name, "level": lease["level"], "ttl_ms": max(0, int((lease["until"] - now) * 1000)),
                   "bind": "conn" if lease["bound"] else "ttl"} for name, lease in self.live().items()]
        return {"instance": self.instance, "effective": self.effective(), "leases": leases,
                "metrics": {name: number() for name, number in self.numbers.items()}}

    def throttle(self, request, connection):
        name, level, bind = request.get("lease"), request.get("level"), request.get("bind", "ttl")
        ttl_ms = request.get("ttl_ms", 30_000)
        need(isinstance(name, str) and NAME.fullmatch(name), "`lease` is 1 to 64 of A-Z a-z 0-9 . _ : -")
        need(type(level) is int and 0 <= level <= 100, "`level` is a whole number from 0 to 100")
        need(type(ttl_ms) is int and ttl_ms > 0, "`ttl_ms` is a whole number above 0")
        need(bind == "ttl" or bind == "conn" and connection != "http", "`bind` is `ttl`, or on a socket `conn`")
        ttl_ms = min(ttl_ms, self.max_ttl_ms) if level else 0
        need(not level or name in self.live() or len(self.leases) < MOST, "there are 64 leases already", "busy")
        previous = self.live().pop(name, {"level": 0})["level"]
        if level:
            bound = connection if bind == "conn" else None
            self.leases[name] = {"level": level, "until": time.monotonic() + ttl_ms / 1000, "bound": bound}
        return {"previous": previous, "level": level, "effective": self.effective(), "ttl_ms": ttl_ms}

    def flush(self, request, connection):
        key, tiers = request.get("key"), request.get("tiers")
        need(isinstance(key, str) and NAME.fullmatch(key), "`key` is 1 to 64 of A-Z a-z 0-9 . _ : -")
        need(isinstance(tiers, list) and tiers, "`tiers` names at least one")
        need(all(isinstance(tier, str) and tier in self.tiers for tier in tiers), "hello lists the tiers there are")
        if key not in self.flushed:
            self.flushed[key] = sum(self.tiers[tier][1]() for tier in set(tiers))
            for tier in tiers:
                self.tiers[tier][2]()
            ctypes.CDLL(None).malloc_trim(0)  # else the allocator keeps it
            self.flushed = dict(list(self.flushed.items())[-MOST:])
        return {"state": "done", "freed_bytes": self.flushed[key]}

class Line(socketserver.StreamRequestHandler):
    def handle(self):
        credentials = self.request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        allowed = struct.unpack("3i", credentials)[1] in self.server.allow  # the user; the pid may be 0
        try:
            while line := self.rfile.readline(LINE_BYTES + 1):
                reply = self.server.control.answer(line if len(line) <= LINE_BYTES else b"", allowed, self)
                self.wfile.write(json.dumps(reply).encode() + b"\n")
                if len(line) > LINE_BYTES:
                    break
        except OSError:
            pass  # it has hung up
        self.server.control.gone(self)

class Web(BaseHTTPRequestHandler):
    inflight, shed, lock, log_message = 0, 0, threading.Lock(), lambda *_: None

    def do_GET(self):
        level = self.server.control.effective()
        if self.path == "/health":
            return self.reply(200, {"level": level})
        with Web.lock:
            admitted = Web.inflight < -(-self.server.limit * (100 - level) // 100)
            Web.inflight, Web.shed = Web.inflight + admitted, Web.shed + (not admitted)
        if not admitted:
            return self.reply(503, {"error": "too much to do"}, {"Retry-After": "5"})
        try:
            time.sleep(self.server.work)
            self.reply(200, {"bytes": len(self.server.pages.setdefault(self.path, bytearray(b"p" * (1 << 20))))})
        finally:
            with Web.lock:
                Web.inflight -= 1

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").encode()
        allowed = self.server.token != b"" and hmac.compare_digest(token, self.server.token)
        body = self.rfile.read(min(length, LINE_BYTES + 1))
        reply = self.server.control.answer(body if length <= LINE_BYTES else b"", allowed, op=self.path[len("/ng/v1/"):])
        self.reply(200 if reply["ok"] else HTTP[reply["error"]["code"]], reply)

    def reply(self, status, body, headers={}):
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

options = argparse.ArgumentParser(description="--token: who may throttle and flush over HTTP; --fill: MiB in each tier")
for name, default in {"socket": "", "port": 0, "token": "", "limit": 8, "work": 0.2, "fill": 0, "allow": -1,
                      "max-ttl-ms": 300_000}.items():
    options.add_argument(f"--{name}", type=type(default), default=default)
options = options.parse_args()
pages, buffers = ({n: bytearray(b"p" * (1 << 20)) for n in range(options.fill)} for _ in "pb")
tiers = {"buffers": ("reversible", lambda: len(buffers) << 20, buffers.clear),
         "pages": ("lossy", lambda: len(pages) << 20, pages.clear)}
numbers = {"inflight": lambda: Web.inflight, "shed_total": lambda: Web.shed, "pages_bytes": tiers["pages"][1]}
control = Control("pages", tiers, numbers, options.max_ttl_ms)
web = ThreadingHTTPServer(("127.0.0.1", options.port), Web)
web.control, web.pages, web.limit, web.work, web.token = control, pages, options.limit, options.work, options.token.encode()
threading.Thread(target=web.serve_forever, daemon=True).start()
if os.path.exists(options.socket):
    os.unlink(options.socket)
socketserver.ThreadingUnixStreamServer.request_queue_size = 64  # of 5, the sixth that comes at once is turned away
lines = socketserver.ThreadingUnixStreamServer(options.socket, Line)
lines.control, lines.allow = control, {0, os.getuid()} if options.allow < 0 else {options.allow}
os.chmod(options.socket, 0o660)
lines.serve_forever()
