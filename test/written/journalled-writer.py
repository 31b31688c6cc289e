"""
Writes at random to one file, and keeps a journal of it in another one that nothing happens to.

  journalled-writer.py FILE JOURNAL PLAN

PLAN is JSON; its members are those of WriterPlan in journal.ts. Before an operation its line goes to
the journal, after it how it ended:

  w SEQUENCE OFFSET LENGTH CONTENT    a write; CONTENT is the sequence number that its bytes are
                                      made of, 0 for zeros
  t SEQUENCE SIZE                     a truncation
  s SEQUENCE                          fsync or fdatasync
  + SEQUENCE                          it succeeded, in full
  - SEQUENCE ERROR                    it did not, or not in full

It ends after so many operations, and with the first that fails, but for "No space left on device" where
the plan says to go on. The bytes of a write are cells of 16 bytes, made of the file's tag, the
sequence number and the offset: see cellsOf in journal.ts.
"""
import array
import errno
import json
import mmap
import os
import random
import sys

PAGE = 4096
MASK = 0xFFFFFFFF


def cells(tag, sequence, offset, length):
    first = offset // 16 * 16
    count = (offset + length + 15) // 16 - first // 16
    words = array.array('Q', bytes(16 * count))
    words[0::2] = array.array('Q', [((tag ^ (sequence * 0x85EBCA6B)) & MASK) << 32 | sequence]) * count
    start = first + ((sequence * 0x9E3779B1 & MASK) << 32) + (sequence * 0xC2B2AE35 & 0x7FFFFFFF)
    words[1::2] = array.array('Q', range(start, start + 16 * count, 16))
    return words.tobytes()[offset - first : offset - first + length]


class Writer:
    def __init__(self, path, journal, plan):
        self.plan = plan
        self.random = random.Random(plan['seed'])
        self.direct = plan.get('direct', False)
        self.fd = os.open(path, os.O_RDWR | (os.O_DIRECT if self.direct else 0))
        self.journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.sequence = plan['firstSequence']
        self.written = []  # (offset, length, content): to be written again, the same
        self.aligned = mmap.mmap(-1, 1 << 20)

    def note(self, *words):
        os.write(self.journal, (' '.join(map(str, words)) + '\n').encode())
        if self.plan.get('durable'):
            os.fdatasync(self.journal)

    def attempt(self, kind, *words, work):
        """Whether to go on."""
        sequence = self.sequence
        self.sequence += 1
        self.note(kind, sequence, *words)
        try:
            complete = work(sequence)
        except OSError as error:
            self.note('-', sequence, errno.errorcode.get(error.errno, error.errno))
            return error.errno == errno.ENOSPC and self.plan.get('goOnWhenFull', False)
        if complete is False:
            self.note('-', sequence, 'SHORT')
        else:
            self.note('+', sequence)
        return True

    def write(self, offset, length, content=None):
        def work(sequence):
            made = sequence if content is None else content
            piece = bytes(length) if made == 0 else cells(self.plan['tag'], made, offset, length)
            if not self.direct:
                return os.pwrite(self.fd, piece, offset) == length
            self.aligned[:length] = piece
            return os.pwritev(self.fd, [memoryview(self.aligned)[:length]], offset) == length

        sequence = self.sequence
        made = sequence if content is None else content
        self.written.append((offset, length, made))
        return self.attempt('w', offset, length, made, work=work)

    def sync(self):
        call = self.random.choice([os.fsync, os.fdatasync])
        return self.attempt('s', work=lambda _: call(self.fd))

    def truncate(self, size):
        return self.attempt('t', size, work=lambda _: os.ftruncate(self.fd, size))

    def step(self):
        plan, chance = self.plan, self.random
        first, end = plan['from'], plan['end']
        dice = chance.random()
        if dice < plan.get('syncs', 0.04):
            return self.sync()
        if plan.get('truncates') and chance.random() < 0.02:
            return self.truncate(chance.randrange(end // 2, end))
        dice = chance.random()
        if dice < 0.05 and self.written:
            return self.write(*chance.choice(self.written[-50:]))
        if dice < 0.4 and not self.direct:
            length = chance.randrange(1, 6000)
            return self.write(chance.randrange(first, end - length), length)
        pages = chance.choice([1, 1, 2, 3, 4, 8, 16])
        low, high = (first + PAGE - 1) // PAGE, end // PAGE - pages
        offset = chance.randrange(low, high + 1) * PAGE
        return self.write(offset, pages * PAGE, 0 if dice > 0.92 else None)


def main():
    path, journal, plan = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    writer = Writer(path, journal, plan)
    print('running', flush=True)
    for _ in range(plan['operations']):
        if not writer.step():
            break
    if plan.get('syncAtEnd'):
        writer.sync()
    os._exit(0)  # no close that could wait or fail: the journal says it all


main()
