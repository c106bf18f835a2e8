# SPDX-License-Identifier: Apache-2.0
# python3 selfcheck.py: integers of any size, doubles, containers, regular expressions, threads, compression, decimal.
import collections
import decimal
import fractions
import hashlib
import json
import math
import re
import struct
import threading
import zlib

seed = 12345


def number():
    global seed
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return seed


def report(part, value):
    print(part, hashlib.sha256(repr(value).encode()).hexdigest()[:32])


report("integers", sum(number() // (number() | 1) ^ number() % 977 << 5 for _ in range(60000)))
report("big", (math.factorial(700) ** 3 * pow(3, 5000)) % (2 ** 521 - 1))
report("doubles", [math.sqrt(number()) / (number() + 1) for _ in range(20000)])
report("rounding", [round(number() / 1000, 2) for _ in range(5000)] + [math.fsum(number() / 7 for _ in range(999))])
report("counter", sorted(collections.Counter(number() % 4999 for _ in range(50000)).items()))
text = " ".join(format(number(), "x") for _ in range(20000))
report("regex", [len(re.findall(r"\b([a-f]+\d+)(?=[a-f])", text)), re.sub(r"(\d)([a-f])", r"\2\1", text)])
report("zlib", zlib.decompress(zlib.compress(text.encode(), 6)) == text.encode())
report("crc", [zlib.crc32(text.encode()), zlib.adler32(text.encode())])
report("struct", struct.pack("<" + "qdfH" * 500, *[f(i) for i in range(500)
                                                   for f in (int, lambda x: x / 3, lambda x: x / 7, int)]))
decimal.getcontext().prec = 60
report("decimal", [str(decimal.Decimal(number()).sqrt() / 7) for _ in range(300)])
report("fraction", str(sum(fractions.Fraction(1, i) for i in range(1, 400))))
report("json", json.loads(json.dumps({str(i): [i / 9, None, "\u00e9" * (i % 9)] for i in range(2000)})))
total, lock = [0], threading.Lock()


def add():
    for i in range(5000):
        with lock:
            total[0] += i


threads = [threading.Thread(target=add) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
report("threads", total)
for name in ("md5", "sha1", "sha512", "sha3_256", "blake2b"):
    report(name, hashlib.new(name, text.encode()).hexdigest())
