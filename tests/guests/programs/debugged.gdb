# SPDX-License-Identifier: Apache-2.0
#
# gdb -batch -nx -x debugged.gdb debugged. Lines that start with "check:" are the result; debugged.expected has them.
# INT3 breakpoints, hardware breakpoints and watchpoints (debug registers), single steps (RFLAGS.TF), calls.
set pagination off
set confirm off
set width 0
set print thread-events off
set debuginfod enabled off

break leaf
run
printf "check: first leaf %d\n", value
continue
printf "check: second leaf %d\n", value
delete
print recurse(0) + leaf(14)
printf "check: called from here, total %d\n", total

# as many single steps as there are instructions from here to the return, by stepi and by hand
break stores
continue
delete
set $steps = 0
set $top = $sp
while $sp <= $top
  stepi
  set $steps = $steps + 1
end
printf "check: stepped out of stores %d, watched %#lx\n", $steps > 5 && $steps < 60, watched
printf "check: real %.3f\n", real

# a watchpoint that every kind of store to it triggers: it needs a second run, from the start
break stores
run
delete
watch watched
continue
printf "check: watched %#lx\n", watched
continue
printf "check: watched %#lx\n", watched
continue
printf "check: watched %#lx\n", watched
delete

# a hardware read watchpoint, then a hardware breakpoint
rwatch read_only
continue
printf "check: read at %d\n", read_only
delete
hbreak string_store
continue
printf "check: hardware breakpoint, small %d %d\n", small[4], small[5]
delete

# a one-byte watchpoint in the middle of REP STOSB
watch small[4]
continue
printf "check: store seen, small %#x\n", small[4]
delete

# a watchpoint on eight bytes, hit in another thread; a condition that is false first
watch watched
continue
printf "check: thread %d stored %#lx\n", $_thread, watched
delete
break finished
continue
printf "check: finished, small %d %d\n", small[0], small[7]
delete
continue
