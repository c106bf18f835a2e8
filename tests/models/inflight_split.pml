/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In-flight tracking of a split virtqueue (protocol/virtqueue_inflight_split.c): the device's process may die behind each
 * store, and its successor knows only guest memory and the region. Each request is answered once, and after it was done.
 *
 * Two descriptors; the driver publishes each request up to ROUNDS times. Indices are counted without wrapping.
 */
#define HEADS  2
#define ROUNDS 2
#define DEATHS 2
#define NONE   HEADS

/* guest memory */
byte avail[8], avail_idx = 0
byte used[8], used_idx = 0
/* the region */
bool inflight[HEADS]
byte next[HEADS], last_batch_head = 0, region_used_idx = 0
/* what really happened */
bool published[HEADS], done[HEADS]
byte answered = 0, wanted = 0

active proctype driver()
{
    byte round[HEADS], seen = 0, head
end:
    do
    :: atomic { !published[0] && round[0] < ROUNDS ->
        published[0] = true; done[0] = false; round[0]++; wanted++; avail[avail_idx] = 0; avail_idx++ }
    :: atomic { !published[1] && round[1] < ROUNDS ->
        published[1] = true; done[1] = false; round[1]++; wanted++; avail[avail_idx] = 1; avail_idx++ }
    :: atomic { seen < used_idx ->
        head = used[seen]
        assert(published[head]) /* not twice */
        assert(done[head])      /* not before */
        published[head] = false
        answered++
        seen++ }
    od
}

/* Behind each store the process may die. */
#define STORE(what) what; if :: deaths < DEATHS -> deaths++; goto recover :: skip fi

active proctype device()
{
    byte deaths = 0, next_avail, next_used, batch, batch_head, head, i, left
    bool held[HEADS]

recover:
    atomic {
        held[0] = false; held[1] = false; batch = 0; batch_head = last_batch_head
        next_used = used_idx
        left = next_used - region_used_idx
        i = last_batch_head
    }
    do
    :: left > 0 -> STORE(inflight[i] = false); i = next[i]; left--
    :: else -> break
    od
    STORE(region_used_idx = next_used)
    atomic {
        next_avail = next_used
        if :: inflight[0] -> held[0] = true; next_avail++ :: else fi
        if :: inflight[1] -> held[1] = true; next_avail++ :: else fi
    }

end:
    do
    :: next_avail < avail_idx -> /* take */
        head = avail[next_avail]
        assert(!held[head])
        STORE(inflight[head] = true)
        held[head] = true
        next_avail++
    :: held[0] -> head = 0; goto use
    :: held[1] -> head = 1; goto use
    :: batch > 0 -> goto flush
    od
use:
    done[head] = true
    held[head] = false
    STORE(next[head] = batch_head)
    batch_head = head
    STORE(last_batch_head = head)
    STORE(used[next_used] = head)
    next_used++
    batch++
    goto end
flush:
#ifndef WRONG_ORDER
    STORE(used_idx = next_used)
#endif
    i = batch_head
    do
    :: batch > 0 -> STORE(inflight[i] = false); i = next[i]; batch--
    :: else -> break
    od
#ifdef WRONG_ORDER
    STORE(used_idx = next_used)
#endif
    STORE(region_used_idx = next_used)
    goto end
}

active proctype verdict()
{
    timeout -> assert(answered == wanted)
}
