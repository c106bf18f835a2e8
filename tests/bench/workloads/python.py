# SPDX-License-Identifier: Apache-2.0
"""Interpreter work: objects, dictionaries, strings, calls."""
import json


class Body:
    def __init__(self, x, v):
        self.x, self.v = x, v

    def step(self, dt):
        self.x += self.v * dt
        if self.x > 1 or self.x < 0:
            self.v = -self.v


def primes(limit):
    sieve = [True] * limit
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            for m in range(n * n, limit, n):
                sieve[m] = False
    return sum(sieve) - 2


def queens(n, row=0, columns=0, left=0, right=0):
    if row == n:
        return 1
    free = ~(columns | left | right) & ((1 << n) - 1)
    found = 0
    while free:
        bit = free & -free
        free ^= bit
        found += queens(n, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1)
    return found


bodies = [Body(i / 100, (i % 7) / 10) for i in range(100)]
for _ in range(1000):
    for body in bodies:
        body.step(0.01)
words = {}
for i in range(150000):
    word = f"word{i * 7919 % 4001}"
    words[word] = words.get(word, 0) + 1
print(primes(400000), queens(8), len(json.loads(json.dumps(words))), round(sum(b.x for b in bodies), 6))
