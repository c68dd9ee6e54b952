#!/usr/bin/env python3
"""Does an application speak ng-control/1? Tests the checklist of docs/app-protocol.md, item by item, over a socket or
HTTP. Standard library only. Leaves nothing in force. Exits with 0 only if every item holds."""
import argparse, http.client, json, os, re, socket, sys, time, urllib.parse

LINE_BYTES = 65536
MINE = f"conform-{os.getpid()}-{int(time.time())}"
STATUS = {"bad_request": 400, "unsupported_version": 400, "denied": 403, "unknown_op": 404, "busy": 503}


class Broken(Exception):
    pass


def hold(fine, what):
    if not fine:
        raise Broken(what)


class Socket:
    """One connection."""

    binding = "socket"

    def __init__(self, where, token=None):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(10)
        self.stream.connect(where)
        self.lines = self.stream.makefile("rb")

    def send(self, raw):
        try:
            self.stream.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reply may be there all the same

    def receive(self):
        line = self.lines.readline()
        hold(line.endswith(b"\n"), "the connection was closed instead of a reply")
        return reply_of(line)

    def raw(self, raw, op=None):
        self.send(raw + b"\n")
        return self.receive()

    def ask(self, op, **fields):
        return self.raw(json.dumps({"op": op, **fields}).encode())

    def close(self):
        self.lines.close()
        self.stream.close()


class Http:
    """One connection for each request."""

    binding = "http"

    def __init__(self, where, token=None):
        self.where, self.token = urllib.parse.urlsplit(where).netloc, token

    def raw(self, raw, op="status"):
        connection = http.client.HTTPConnection(self.where, timeout=10)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection.request("POST", f"/ng/v1/{op}", raw, headers)
        answer = connection.getresponse()
        reply = reply_of(answer.read())
        expected = 200 if reply["ok"] else STATUS.get(reply["error"]["code"])
        hold(answer.status == expected, f"HTTP status {answer.status}, not {expected}, with {reply}")
        return reply

    def ask(self, op, **fields):
        return self.raw(json.dumps(fields).encode(), op)

    def close(self):
        pass


def no_number(name):
    raise ValueError(f"{name} is no number")


def reply_of(line):
    try:
        reply = json.loads(line, parse_constant=no_number)
    except ValueError as why:
        raise Broken(f"a reply that is no JSON ({why}): {line[:80]!r}") from None
    hold(isinstance(reply, dict) and "id" in reply, f"a reply is an object with an id: {reply}")
    hold(isinstance(reply.get("ok"), bool), f"`ok` is true or false: {reply}")
    hold(reply["ok"] or isinstance(reply.get("error", {}).get("code"), str), f"an error has a code: {reply}")
    return reply


def whole(number):
    return type(number) is int


class Suite:
    def __init__(self, options):
        self.options = options
        self.token = open(options.token_file).read().strip() if options.token_file else None
        self.kind = Http if options.where.startswith("http://") else Socket
        self.talk = self.open()

    def open(self):
        return self.kind(self.options.where, self.token)

    def on_socket(self):
        return self.kind is Socket

    # What most items need.

    def good(self, op, **fields):
        reply = self.talk.ask(op, **fields)
        hold(reply["ok"], f"{op} {fields} was refused: {reply}")
        return reply

    def refused(self, code, op, **fields):
        self.is_refusal(code, self.talk.ask(op, **fields), f"{op} {fields}")

    def is_refusal(self, code, reply, asked):
        hold(not reply["ok"] and reply["error"]["code"] == code, f"{asked}: not {code} but {reply}")

    def throttle(self, name, level, **fields):
        return self.good("throttle", lease=f"{MINE}-{name}", level=level, **fields)

    def leases(self):
        """Of status, ours alone."""
        status = self.good("status")
        mine = {lease["lease"]: lease for lease in status["leases"] if lease["lease"].startswith(MINE)}
        greatest = max((lease["level"] for lease in status["leases"]), default=0)
        hold(status["effective"] == greatest, f"effective {status['effective']} with leases {status['leases']}")
        return {name[len(MINE) + 1:]: lease for name, lease in mine.items()}

    def clear(self):
        self.talk = self.open()
        if self.options.denied:
            return
        for name in self.leases():
            self.throttle(name, 0)

    # The checklist.

    def item_1(self):
        "hello says who is there"
        hello = self.good("hello", agent="conform")
        hold(hello.get("v") == 1, "v is 1")
        hold(isinstance(hello.get("app"), str) and hello["app"], "app is a name")
        instance = hello.get("instance")
        hold(isinstance(instance, str) and 1 <= len(instance.encode()) <= 128, "instance has 1 to 128 bytes")
        hold(self.good("status").get("instance") == instance, "status names the same instance")
        hold(isinstance(hello.get("caps"), list) and "throttle" in hello["caps"], "caps has throttle")
        hold(whole(hello.get("max_ttl_ms")) and hello["max_ttl_ms"] >= 30000, "max_ttl_ms is at least 30000")
        hold(len(hello.get("tiers", [])) <= 16, "there are at most 16 tiers")
        for tier in hello.get("tiers", []):
            fine = isinstance(tier.get("name"), str) and isinstance(tier.get("class"), str)
            fine = fine and 1 <= len(tier["name"].encode()) <= 64 and tier["name"].isprintable()
            hold(fine and (tier.get("bytes") is None or whole(tier["bytes"])), f"tier {tier}")

    def item_2(self):
        "id comes back as it was"
        for ident in (7, 0, "seven", None):
            reply = self.talk.ask("status", id=ident)
            hold(reply["id"] == ident and type(reply["id"]) is type(ident), f"id {ident!r} came back as {reply['id']!r}")
        hold(self.talk.ask("status")["id"] is None, "no id comes back as null")
        hold(self.talk.ask("throttle", id=8, level="much")["id"] == 8, "an error has the id too")

    def item_3(self):
        "unknown fields change nothing"
        self.good("hello", colour="red", nested={"a": [1, {}]})
        self.throttle("a", 10, ttl_ms=5000, urgency=99)
        hold(self.leases()["a"]["level"] == 10, "the level is as it was asked for")

    def item_4(self):
        "an operation that does not exist is answered"
        self.refused("unknown_op", "dance")
        if self.on_socket():
            self.is_refusal("unknown_op", self.talk.raw(b"{}"), "a request without op")

    def item_5(self):
        "another version is answered with those that are supported"
        reply = self.talk.ask("status", v=2)
        self.is_refusal("unsupported_version", reply, "v 2")
        hold(1 in reply["error"].get("supported", []), f"supported lists 1: {reply}")
        self.good("status", v=1)

    def item_6(self):
        "garbage is answered, and the conversation goes on"
        garbage = [b"this is no JSON", b"{", b"[]", b"3", b'"op"', b"null", b"", b"\xff\xfe\x80", b"[" * 60000,
                   b'{"op":' * 10000, b'{"op":"status"}{}', b"\x00"]
        for line in garbage:
            self.is_refusal("bad_request", self.talk.raw(line), repr(line[:40]))
        self.good("status")

    def item_7(self):
        "64 KiB are read, and no more"
        room = LINE_BYTES - (1 if self.on_socket() else 0)
        request = b'{"op":"status","id":1,"pad":"%s"}'
        fits = request % (b"x" * (room - len(request) + 2))
        hold(len(fits) == room, "this program counts wrongly")
        hold(self.talk.raw(fits)["ok"], "a line of 64 KiB is read")
        self.is_refusal("bad_request", self.talk.raw(fits[:-2] + b'x"}'), "one byte more")
        if self.on_socket():
            try:
                hold(self.talk.lines.readline() == b"", "the connection is closed after a line that is too long")
            except ConnectionResetError:
                pass
            self.talk = self.open()
            self.is_refusal("bad_request", self.talk.raw(b"x" * 1_000_000), "a megabyte")
            self.talk = self.open()
        self.good("status")

    def item_8(self):
        "a lease is in force at once"
        reply = self.throttle("a", 40, ttl_ms=20000, reason="a test")
        hold((reply["previous"], reply["level"], reply["ttl_ms"]) == (0, 40, 20000), f"the reply {reply}")
        lease = self.leases()["a"]
        hold(lease["level"] == 40 and lease["bind"] == "ttl" and 0 < lease["ttl_ms"] <= 20000, f"status has {lease}")
        hold(whole(self.throttle("b", 1)["ttl_ms"]), "ttl_ms may be left out")

    def item_9(self):
        "the same id replaces, level 0 ends"
        self.throttle("a", 40, ttl_ms=20000)
        reply = self.throttle("a", 20, ttl_ms=25000)
        hold((reply["previous"], reply["level"]) == (40, 20), f"the reply {reply}")
        leases = self.leases()
        hold(len(leases) == 1 and leases["a"]["level"] == 20 and leases["a"]["ttl_ms"] > 10000, f"one lease: {leases}")
        reply = self.throttle("a", 0)
        hold((reply["previous"], reply["level"], reply["ttl_ms"]) == (20, 0, 0), f"the reply {reply}")
        hold(not self.leases(), "it is gone")
        hold(self.throttle("a", 0)["previous"] == 0, "to end what is not there is no error")

    def item_10(self):
        "the greatest level counts"
        for name, level in (("a", 30), ("b", 70), ("c", 50)):
            effective = self.throttle(name, level, ttl_ms=20000)["effective"]
            self.leases()
        hold(effective >= 70, f"effective is {effective} with leases of 30, 70 and 50")
        hold(self.throttle("b", 0)["effective"] >= 50, "then 50 is left")
        self.leases()

    def item_11(self):
        "a lease ends with its time"
        ttl = 0.7
        self.throttle("long", 10, ttl_ms=20000)
        asked = time.monotonic()
        self.throttle("short", 90, ttl_ms=int(ttl * 1000))
        granted = time.monotonic()
        while True:
            before = time.monotonic()
            leases = self.leases()
            after = time.monotonic()
            if "short" not in leases:
                hold(after >= asked + ttl - 0.01, f"it ended after {after - asked:.3f} s, not {ttl}")
                break
            hold(before <= granted + ttl + 0.01, f"still in force after {before - granted:.3f} s, not {ttl}")
            time.sleep(0.02)
        hold("long" in leases, "the other one lives")

    def item_12(self):
        "times are capped"
        most = self.good("hello")["max_ttl_ms"]
        hold(self.throttle("a", 10, ttl_ms=most + 1)["ttl_ms"] == most, f"more than {most} counts as that")
        hold(self.throttle("a", 10, ttl_ms=10**15)["ttl_ms"] == most, "however much it is")
        hold(self.leases()["a"]["ttl_ms"] <= most, "status says the same")

    def item_13(self):
        "what is out of range is refused"
        self.throttle("a", 10, ttl_ms=20000)
        for level in (-1, 101, 60.5, "60", True, None, [], 10**30):
            self.refused("bad_request", "throttle", lease=f"{MINE}-a", level=level)
        for ttl in (0, -5, "5000", 0.5, True, {}):
            self.refused("bad_request", "throttle", lease=f"{MINE}-a", level=50, ttl_ms=ttl)
        for name in ("", "x" * 65, "a b", "a\n", "ä", 7, None, ["a"]):
            self.refused("bad_request", "throttle", lease=name, level=50)
        self.refused("bad_request", "throttle", level=50)
        for bind in ("forever", 1, True):
            self.refused("bad_request", "throttle", lease=f"{MINE}-a", level=50, bind=bind)
        hold(self.leases()["a"]["level"] == 10, "and nothing is changed")

    def item_14(self):
        "a lease may be bound to its connection"
        if not self.on_socket():
            return self.refused("bad_request", "throttle", lease=f"{MINE}-a", level=50, bind="conn")
        other = self.open()
        for name, bind in (("bound", "conn"), ("freed", "conn"), ("free", "ttl")):
            reply = other.ask("throttle", lease=f"{MINE}-{name}", level=20, ttl_ms=20000, bind=bind)
            hold(reply["ok"], f"bind {bind}: {reply}")
        hold(self.leases()["bound"]["bind"] == "conn", "status says that it is bound")
        self.throttle("freed", 20, ttl_ms=20000)
        other.close()
        until = time.monotonic() + 5
        while "bound" in self.leases():
            hold(time.monotonic() < until, "the connection is closed, its lease lives")
            time.sleep(0.01)
        hold(set(self.leases()) == {"free", "freed"}, f"the others live: {self.leases()}")

    def item_15(self):
        "64 leases, and no more"
        others = len(self.good("status")["leases"])
        for number in range(64 - others):
            self.throttle(f"n{number}", 1, ttl_ms=60000)
        self.refused("busy", "throttle", lease=f"{MINE}-more", level=1)
        self.throttle("n0", 2, ttl_ms=60000)
        self.throttle("more", 0)
        hold(len(self.leases()) == 64 - others, "all of them live")

    def item_16(self):
        "requests are answered in their order, each once"
        if not self.on_socket():
            return
        self.talk.send(b"".join(b'{"op":"status","id":%d}\n' % n for n in range(20)))
        order = [self.talk.receive()["id"] for _ in range(20)]
        hold(order == list(range(20)), f"the order was {order}")
        for piece in (b'{"op":"sta', b'tus","id"', b":99}", b"\n"):
            self.talk.send(piece)
            time.sleep(0.02)
        hold(self.talk.receive()["id"] == 99, "a request in several writes")

    def item_17(self):
        "connections do not wait for each other"
        others = [self.open() for _ in range(7)]
        if self.on_socket():
            others[0].send(b'{"op":"sta')
        for other in others[1:]:
            hold(other.ask("status")["ok"], "each is served")
        self.good("status")
        for other in others:
            other.close()

    def item_18(self):
        "metrics are numbers with plain names"
        metrics = self.good("status").get("metrics")
        hold(isinstance(metrics, dict) and len(metrics) <= 64, "metrics is an object of at most 64")
        for name, number in metrics.items():
            hold(re.fullmatch("[a-z][a-z0-9_]{0,63}", name), f"the name {name!r}")
            hold(type(number) in (int, float), f"{name} is {number!r}")

    def item_19(self):
        "a flush names tiers that there are, and is carried out once"
        hello = self.good("hello")
        if "flush" not in hello["caps"]:
            return self.refused("unknown_op", "flush", tiers=["a"], key=f"{MINE}-f")
        hold(hello["tiers"], "who can flush has tiers")
        names = [tier["name"] for tier in hello["tiers"]]
        for tiers in (["no such tier"], [*names, "no such tier"], [], names[0], None, [7]):
            self.refused("bad_request", "flush", tiers=tiers, key=f"{MINE}-f")
        for key in ("", None, 7, "x" * 65):
            self.refused("bad_request", "flush", tiers=names, key=key)
        after = [tier.get("bytes") for tier in self.good("hello")["tiers"]]
        hold(not any(self.options.still) or after == self.options.still, f"a refused flush has emptied: {after}")
        if not self.options.flush:
            return
        first = self.flushed(names)
        hold(self.flushed(names) == first, "the same key, the same answer")

    def flushed(self, names):
        until = time.monotonic() + 10
        while True:
            reply = self.good("flush", tiers=names, key=f"{MINE}-f")
            hold(reply["state"] in ("done", "accepted"), f"state is done or accepted: {reply}")
            if reply["state"] == "done":
                return reply.get("freed_bytes")
            hold(time.monotonic() < until, "accepted, and never done")
            time.sleep(0.05)

    def item_20(self):
        "who is not allowed is denied, and told how things are"
        self.good("hello")
        before = self.good("status")["effective"]
        self.refused("denied", "throttle", lease=f"{MINE}-a", level=50)
        self.refused("denied", "throttle", lease=f"{MINE}-a", level=0)
        self.refused("denied", "flush", tiers=["a"], key=f"{MINE}-f")
        hold(self.good("status")["effective"] == before and not self.leases(), "and nothing is changed")

    def run(self):
        items = [20] if self.options.denied else self.options.only or range(1, 20)
        failed = 0
        for number in items:
            item = getattr(self, f"item_{number}")
            try:
                item()
                self.clear()
                print(f"ok     {number:2} {item.__doc__}")
            except (Broken, OSError, LookupError, TypeError, http.client.HTTPException) as why:
                failed += 1
                print(f"FAILED {number:2} {item.__doc__}: {type(why).__name__ * (not isinstance(why, Broken))} {why}")
                self.recover()
        print(f"{len(items) - failed} of {len(items)} items hold over this {self.talk.binding}")
        return failed == 0

    def recover(self):
        try:
            self.clear()
        except (Broken, OSError, LookupError, TypeError) as why:
            print(f"       and cannot be cleared up: {why}")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("where", help="the path of a socket, or http://127.0.0.1:PORT")
    options.add_argument("--token-file", help="what may throttle over HTTP")
    options.add_argument("--flush", action="store_true", help="empty all tiers, too")
    options.add_argument("--denied", action="store_true", help="this user is to be denied")
    options.add_argument("--only", type=int, action="append", metavar="ITEM", help="this item alone")
    options = options.parse_args()
    suite = Suite(options)
    hello = suite.talk.ask("hello")
    options.still = [tier.get("bytes") for tier in hello.get("tiers") or []]
    sys.exit(0 if suite.run() else 1)


if __name__ == "__main__":
    main()
